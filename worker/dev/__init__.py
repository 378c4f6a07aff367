"""The embedded stack: real servers as child processes of one command, without Docker."""
