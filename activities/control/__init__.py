"""What a control worker does: it claims, inspects, makes and deletes volumes, keeps the lease of a mover, purges.

It moves *no* bytes of a home; that is ``mover``. Only ``prove_again`` reads an archive back here.
"""
