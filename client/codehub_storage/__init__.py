"""What a reconciler installs: contracts, errors, keys, and the typed client over Temporal.

It is *not* the service: no object store, no Docker, no Kubernetes, no activity is imported from here.
"""
