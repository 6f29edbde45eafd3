"""`peftbench doctor`."""

from __future__ import annotations

from .options import write


def doctor_command() -> None:
    """Show what this machine, its GPU and its libraries can measure, and what they can't."""
    from ..inspection.doctor import doctor

    write(doctor() + "\n")
