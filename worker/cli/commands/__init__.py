"""One file for each command, named like it: ``HELP``, ``ARGUMENTS`` and ``run``."""
