"""What we ask of the Linux kernel: system calls that Python lacks, and what /proc tells of processes and mounts."""
