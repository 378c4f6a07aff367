"""Compose and run: settings, the control worker, the mover, the command line, the embedded stack."""
