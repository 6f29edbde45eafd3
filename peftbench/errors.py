"""The errors a user can mend. Each message is one line: what was asked, what exists, what to do.

PeftbenchError
├── UsageError      the command is wrong: exit status 2, nothing was run
│   └── ModelError  a model's files can't serve: of several models a row of its own, the others go on
└── NotSupported    this method can't serve this model or task: a row of its own, the others go on
    └── Mistaken    its code can't be right on any model: the same row, and a failure where methods are checked
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class PeftbenchError(Exception):
    """Something the user can mend; the message says how."""


class UsageError(PeftbenchError):
    """The command is wrong and nothing of it can run."""


class ModelError(UsageError):
    """A model is not there, or its files are broken; a `not supported` row where the command names other models too."""


class NotSupported(PeftbenchError):
    """A method can't serve this model or task; becomes a `not supported` row."""


class Mistaken(NotSupported):
    """What a method gives can't be right on any model."""


def unknown(kind: str, name: str, known: Iterable[str], hint: str) -> UsageError:
    """The error for a name that nothing answers to, with the nearest names that exist."""
    names = sorted(known)
    by_lower = {n.lower(): n for n in names}
    near = [by_lower[n] for n in difflib.get_close_matches(name.lower(), by_lower, n=3, cutoff=0.5)]
    offer = (
        f"did you mean {' or '.join(map(repr, near))}?" if near else f"known: {', '.join(names) or 'none'}"
    )
    return UsageError(f"unknown {kind} {name!r}; {offer} ({hint})")
