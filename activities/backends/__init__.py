"""Volume backends behind one Protocol: directory now; Docker and Kubernetes are further files beside it.

They are *not* aware of one another, of Temporal, or of what an archive is.
"""
