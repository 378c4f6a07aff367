"""What a reconciler installs: contracts, errors, keys, and the typed client over Temporal.

It is *not* the service: no object store, no Docker, no Kubernetes, no activity is imported from here.
"""

from codehub_storage.client import OperationHandle, StorageClient, connect
from codehub_storage.contracts import CancelOutcome, OperationResult, Phase, Progress
from codehub_storage.errors import ErrorCode, StorageError
from codehub_storage.provider import StorageProvider

__all__ = [
    "CancelOutcome",
    "ErrorCode",
    "OperationHandle",
    "OperationResult",
    "Phase",
    "Progress",
    "StorageClient",
    "StorageError",
    "StorageProvider",
    "connect",
]
