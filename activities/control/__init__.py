"""What a control worker does: it claims, inspects, makes and deletes volumes, keeps the lease of a mover, purges.

It reads and moves *no* bytes of a home; that is ``mover``.
"""
