"""What a report is made of: the results of a store, and what differences are taken to."""

from __future__ import annotations

import contextlib
from pathlib import Path

from . import defaults
from .errors import UsageError, unknown
from .results import Result
from .store import Store


def stored_results(store: Path, baseline: str) -> tuple[list[Result], str]:
    """Everything in a store, and the SPEC of the baseline as its records spell it.

    Raises:
        UsageError: it holds no training run, or none of that method.
    """
    found = [Result(stored.record, stored.folder) for stored in Store(store).all()]
    if not any(result.record.run.kind == "training" for result in found):
        raise UsageError(
            f"the store {str(store)!r} holds no finished training run; `peftbench run` makes some"
        )
    known = sorted({result.record.run.method for result in found})
    if baseline not in known and baseline != defaults.REFERENCE:
        from .prepare import canonical

        with contextlib.suppress(UsageError):  # another name of it, or its fields in another order
            baseline = canonical(baseline)
    if baseline not in known and baseline != defaults.REFERENCE:
        raise unknown("method of this store:", baseline, known, "one of " + ", ".join(known))
    return found, baseline
