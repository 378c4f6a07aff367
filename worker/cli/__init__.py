"""The operator's commands: thin, over the client and the parts that the worker is made of.

``parser`` says what can be typed and imports nothing, so that `--help` is quick; a command's module is imported when
the command runs.
"""
