"""The command `kexue-keras`: `main.py` has the parser, errors and exit codes, and each command has a file.

A command is a module with `run(parser, arguments)`: it adds its arguments to `parser`, parses, does its work and
returns the exit code. `main.py` names it with one line of help.
"""
