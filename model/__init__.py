"""Explicit-state model of the storage protocol: every interleaving within stated bounds, searched to the end.

It exists because the protocol's mistakes are interleavings that nobody thinks of: a DELETE that lands an hour late, a
reset of a run that is two operations old, a cancel between a seal and a removal.  It is not a test of the code and
imports none of it; the code follows the steps written here.  `README.md` has the bounds and the results.
"""
