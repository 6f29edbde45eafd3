"""`python -m peftbench`: the installed program, whatever the current folder holds.

Python puts the current folder first where a module is run by `-m`, so a file there that is named as a library would be imported
in its place, and a checkout of this program in the place of the installed one.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path


def _leave_this_folder() -> None:
    """Take the current folder off the path; where this very package came from there, start again without it."""
    here = os.getcwd()
    if sys.flags.safe_path or not sys.path or os.path.abspath(sys.path[0] or here) != here:
        return
    del sys.path[0]
    own = Path(__file__).resolve().parents[1]
    if own == Path(here).resolve() and importlib.util.find_spec("peftbench.methods") is None:
        os.execv(sys.executable, [sys.executable, "-P", *sys.orig_argv[1:]])


def main() -> None:
    """The program, also where it is interrupted while its libraries are imported."""
    try:
        from .cli.app import main as program
    except KeyboardInterrupt:
        print("peftbench: interrupted", file=sys.stderr)
        sys.exit(130)
    program()


if __name__ == "__main__":
    _leave_this_folder()
    main()
