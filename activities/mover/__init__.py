"""What a mover does: it archives and restores the one volume that it was started for.

It knows *neither* backends nor workflows: the process that started it passed all it needs.
"""
