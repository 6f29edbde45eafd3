"""Records with what lies beside them, and the scores that statistics are made of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow.parquet

from ..errors import PeftbenchError, UsageError
from ..stats.estimate import Groups, Scores
from .record import Record
from .runs import Run
from .spelling import spelled_alike
from .store import RECORD, Store

if TYPE_CHECKING:
    import pandas as pd

PREDICTIONS, PSEUDO_VALUES = "predictions.parquet", "pseudo_values.parquet"
# The same of the tasks in `run.retain`, before and after, all in one: `task` is a task's place there.
RETAINED, RETAINED_PSEUDO_VALUES = "retained.parquet", "retained_pseudo_values.parquet"


@dataclass(frozen=True)
class Result:
    """A record, and its predictions where it has any."""

    record: Record
    folder: Path | None

    @property
    def seedless(self) -> bool:
        """Whether this one run stands for all seeds."""
        return bool((self.record.claims or {}).get("seedless"))

    def predictions(self) -> pd.DataFrame | None:
        """One row an item of the scored split: `item`, `prediction`, `reference`, `nll`, `group`, maybe `score`."""
        return self._frame(PREDICTIONS)

    def pseudo_values(self) -> pd.DataFrame | None:
        """One row a block of items, one column for each metric that is not a mean over items."""
        return self._frame(PSEUDO_VALUES)

    def table(self, name: str, columns: list[str] | None = None) -> pyarrow.Table | None:
        """A file of it, or those of some columns that it has.

        A report of thousands of runs reads as many small files: in one piece, as the library's own reading ahead takes
        longer than the file.
        """
        if self.record.status != "ok" or self.folder is None:
            return None
        try:
            with open(f"{self.folder}/{name}", "rb") as source:
                content = source.read()
        except FileNotFoundError:
            return None
        with pyarrow.parquet.ParquetFile(pyarrow.BufferReader(content), pre_buffer=False) as file:
            return file.read(columns=columns, use_threads=False)

    def _frame(self, name: str) -> pd.DataFrame | None:
        found = self.table(name)
        return None if found is None else found.to_pandas()


def newest_source(results: Sequence[Result]) -> list[Result]:
    """Without those of an older source of the same method, on the same model and task."""
    newest: dict[tuple[str, ...], str] = {}
    for result in sorted(results, key=lambda r: r.record.started_at):
        newest[_who(result.record.run)] = result.record.run.identity["method"]
    return [r for r in results if r.record.run.identity["method"] == newest[_who(r.record.run)]]


def _who(run: Run) -> tuple[str, ...]:
    return run.model, run.task, run.method


@dataclass(frozen=True)
class MethodScores:
    """Every figure of quality of one method, by seed."""

    figures: dict[str, Scores]  # metric, or "nll"
    groups: dict[str, Groups]  # of the parts of each figure


def method_scores(
    results: Sequence[Result], seeds: Sequence[int], like: MethodScores | None = None
) -> MethodScores | None:
    """The scores of the runs of one method; one that does not depend on the seed stands for all of `seeds`.

    Args:
        like: of another method on the same items, which are in the same groups.
    """
    good: dict[int, Result] = {}
    tables: dict[int, pyarrow.Table] = {}
    for result in results:
        columns = ["score", "nll"] if tables or like is not None else ["score", "nll", "group"]
        table = result.table(PREDICTIONS, columns)
        if table is not None:
            good[result.record.run.seed], tables[result.record.run.seed] = result, table
    if not good:
        return None
    first, table = next(iter(good.values())), next(iter(tables.values()))
    if first.seedless:
        good, tables = dict.fromkeys(seeds or good, first), dict.fromkeys(seeds or good, table)
    metric = (first.record.metric or {}).get("name")
    figures: dict[str, Scores] = {}
    groups: dict[str, Groups] = {}
    of_items = like.groups["nll"] if like is not None else Groups.of(numbers(table, "group"))
    by_block = None
    for name, column in ((metric, "score"), ("nll", "nll")):
        if name is not None and all(column in t.column_names for t in tables.values()):
            figures[name] = Scores.of_items({seed: numbers(t, column) for seed, t in tables.items()})
            groups[name] = of_items
    blocks = {seed: r.table(PSEUDO_VALUES) for seed, r in good.items()}
    shared = next((t for t in blocks.values() if t is not None), None)
    for name in (column for column in (shared.column_names if shared else ()) if column != "block"):
        order = sorted(good)
        parts = [numbers(t, name) for seed in order if (t := blocks[seed]) is not None]
        if len(parts) == len(order) and len(parts[0]):
            values = np.asarray([(good[s].record.quality or {})[name] for s in order], np.float64)
            figures[name] = Scores(tuple(order), np.stack(parts).astype(np.float64), values)
            by_block = by_block or of_blocks(numbers(shared, "block"), of_items)
            groups[name] = by_block
    if of_items.count == 1:  # without it nothing is left to tell what items bring: the seeds alone speak
        for name in first.record.quality or {}:
            known = {seed: (result.record.quality or {}).get(name) for seed, result in good.items()}
            if name not in figures and None not in known.values():
                figures[name] = Scores.of_items(
                    {seed: np.full(len(of_items.index), value) for seed, value in known.items()}
                )
                groups[name] = of_items
    return MethodScores(figures, groups)


def of_blocks(blocks: npt.NDArray[Any], of_items: Groups) -> Groups:
    """Each pseudo-value by itself; where its block is one group of items, groups of several sizes tell as little as there."""
    found = Groups.of(blocks)
    return replace(found, effective=of_items.effective_count) if found.count == of_items.count else found


def numbers(table: pyarrow.Table, column: str) -> npt.NDArray[Any]:
    """A column; of texts, the number of each text."""
    values = table[column].combine_chunks()
    if pyarrow.types.is_string(values.type) or pyarrow.types.is_large_string(values.type):
        values = values.dictionary_encode().indices
    if values.null_count == 0:
        return np.from_dlpack(values)  # `to_numpy` imports pandas first
    return np.asarray(values.to_numpy(zero_copy_only=False))


def stored_results(*stores: Path) -> list[Result]:
    """Everything in some stores, each run once, a good one before a failed one, and each file in one and the same word.

    Raises:
        UsageError: they hold no training run.
    """
    found: dict[str, Result] = {}
    for stored in (stored for store in stores for stored in Store(store).all()):
        known = found.get(stored.record.key)
        if known is None or known.record.status != "ok":
            found[stored.record.key] = Result(stored.record, stored.folder)
    if not any(result.record.run.kind == "training" for result in found.values()):
        named = " and ".join(repr(str(store)) for store in stores)
        held = "store {} holds" if len(stores) == 1 else "stores {} hold"
        raise UsageError(f"the {held.format(named)} no finished training run; `peftbench run` makes some")
    return alike(list(found.values()))


def alike(results: Sequence[Result]) -> list[Result]:
    """The same results, each file in one and the same word."""
    records = spelled_alike([result.record for result in results])
    return [replace(result, record=record) for result, record in zip(results, records, strict=True)]


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
