"""What a mover does: it archives and restores the one volume that it was started for.

It knows *neither* a backend nor a workflow, but for the messages of its steps: its arguments say all else.
"""
