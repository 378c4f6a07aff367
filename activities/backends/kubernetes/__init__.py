"""Persistent volume claims of one Kubernetes namespace, moved by Pods that mount the one claim.

Does not: choose nodes, attach disks, keep state in the cluster. What may be written is decided by the record.
"""
