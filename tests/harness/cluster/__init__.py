"""A real Kubernetes of two nodes, in namespaces of its own: nothing of the machine is taken, nothing is left behind.

Each node is what a machine would be: its own processes, mounts and network, a containerd and a kubelet. A third place
holds the control plane. There is neither kube-proxy nor DNS: Pods are told addresses, and the API server answers at its
service address too, so that what runs in a Pod finds it in the usual way.
"""
