"""The command `kexue-keras`: `main.py` has the parser, errors and exit codes, and each command has a file.

A command is a function of `arguments.py`, which adds its arguments to a parser and checks them without TensorFlow, and
a module of the same name with `run(options)`: it does the work and returns the exit code. `main.py` names it with one
line of help.
"""
