"""What running activities have in common: heartbeats, cancellation, failpoints, and the kernel in ``linux``."""
