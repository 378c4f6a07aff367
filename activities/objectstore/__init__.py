"""The object store: a Protocol and its S3 implementation.

It knows keys, bytes and checksums. It is *not* aware of workspaces' states, of Temporal, or of volumes.
"""
