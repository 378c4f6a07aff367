"""Volume backends behind one Protocol: a directory, a Docker engine, a namespace of Kubernetes.

They are *not* aware of one another, of Temporal, or of what an archive is.
"""
