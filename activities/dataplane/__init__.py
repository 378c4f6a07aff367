"""The data plane: a folder on one side, an object store on the other, a progress callback between.

Walk, cut, pack, verify, unpack. It knows *neither* Temporal nor Docker and is usable and testable alone.
"""
