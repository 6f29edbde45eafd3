"""What of a suite is left out."""

from __future__ import annotations

from dataclasses import asdict, dataclass


@dataclass(frozen=True)
class Exclusion:
    """Runs of a method, on a model and a task; None: of any."""

    method: str | None = None
    model: str | None = None
    task: str | None = None

    @property
    def said(self) -> str:
        """As a user would say it."""
        return ", ".join(f"{key} {value!r}" for key, value in asdict(self).items() if value is not None)
