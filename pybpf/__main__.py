"""``python -m pybpf`` and the script ``pybpf``: the command line."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import NoReturn

__all__ = ["main"]


def main(args: Sequence[str] | None = None) -> NoReturn:
    """See `pybpf.cli.main`. An interruption while modules are loaded is one, too."""
    try:
        from pybpf import cli
    except KeyboardInterrupt:
        sys.exit(130)
    cli.main(args)


if __name__ == "__main__":
    main()
