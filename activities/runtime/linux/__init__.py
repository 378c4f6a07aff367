"""What we ask of the Linux kernel: system calls that Python lacks, and what /proc shows of processes and mounts."""
