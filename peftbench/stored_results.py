"""What a report is made of: the results of a store, and what differences are taken to."""

from __future__ import annotations

import contextlib
from pathlib import Path

from . import defaults
from .errors import PeftbenchError, UsageError, unknown
from .record import Record
from .results import Result
from .store import RECORD, Store


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


def results_at(place: Path) -> list[Result]:
    """The results of a store, or of one run by its folder or its record.

    Raises:
        UsageError: it is none of these.
    """
    if place.is_file() or (place / RECORD).is_file():
        file = place if place.is_file() else place / RECORD
        try:
            return [Result(Record.from_file(file), file.parent)]
        except (PeftbenchError, UnicodeDecodeError, TypeError) as error:
            raise UsageError(
                f"{str(file)!r} is no record of a run ({error}); name a store, or a run's folder or record.json in it"
            ) from error
    return [Result(stored.record, stored.folder) for stored in Store(place).all()]
