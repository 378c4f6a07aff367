"""The operator's command line: thin, over the client and the parts that the worker is made of.

``commands`` has one file for each command. ``parser`` reads them all, so each imports at its top only what is quick
to import: `--help` and a typing error get their output at once. What needs the SDK is imported when a command runs.
"""
