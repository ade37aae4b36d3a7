"""``python -m pybpf``: the command line."""

from pybpf.cli import main

__all__ = ["main"]

if __name__ == "__main__":
    main()
