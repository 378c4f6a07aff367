"""What a mover does: it archives and restores the one volume that it was started for.

It knows *neither* backends nor workflows: who started it has told it all it needs.
"""
