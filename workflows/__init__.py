"""What happens, in which order: the four transitions as Temporal workflows, and the messages of their steps.

It moves *no* bytes and talks to no server; that is `activities`.
"""
