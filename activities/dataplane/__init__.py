"""The data plane: a folder on one side, an object store on the other, a progress callback between.

It runs the archiver, which walks, cuts, packs, verifies and unpacks, and it decides what of that is sent and believed.
It knows *neither* Temporal nor Docker and is usable and testable alone.
"""
