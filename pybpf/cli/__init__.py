"""The command line ``pybpf``: parses arguments, calls the library, prints.

main       the group of commands, and what becomes of errors
status     exit statuses
options    arguments and options that commands share
files      objects, assembler text and bytecode in; programs chosen
output     tables, messages, progress
verify, run, disasm, asm, inspect, conformance, version    a command each

A command is imported when it is called, and so is what it needs: ``pybpf verify`` loads neither LLVM nor numpy.
"""

from pybpf.cli.main import main

__all__ = ["main"]
