"""Records with what lies beside them, and the scores that statistics are made of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from .record import Record
from .stats import Scores


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
        return self._frame("predictions.parquet")

    def pseudo_values(self) -> pd.DataFrame | None:
        """One row a block of items, one column for each metric that is not a mean over items."""
        return self._frame("pseudo_values.parquet")

    def _frame(self, name: str) -> pd.DataFrame | None:
        if self.record.status != "ok" or self.folder is None or not (self.folder / name).is_file():
            return None
        return pd.read_parquet(self.folder / name)


@dataclass(frozen=True)
class MethodScores:
    """Every figure of quality of one method, by seed."""

    figures: dict[str, Scores]  # metric, or "nll"
    groups: dict[str, npt.NDArray[Any]]  # of the parts of each figure


def method_scores(results: Sequence[Result], seeds: Sequence[int]) -> MethodScores | None:
    """The scores of the runs of one method; one that does not depend on the seed stands for all of `seeds`."""
    good, frames = {}, {}
    for result in results:
        frame = result.predictions()
        if frame is not None:
            good[result.record.run.seed], frames[result.record.run.seed] = result, frame
    if not good:
        return None
    first, frame = next(iter(good.values())), next(iter(frames.values()))
    if first.seedless:
        good, frames = dict.fromkeys(seeds or good, first), dict.fromkeys(seeds or good, frame)
    metric = (first.record.metric or {}).get("name")
    figures, groups = {}, {}
    for name, column in ((metric, "score"), ("nll", "nll")):
        if name is not None and all(column in f for f in frames.values()):
            figures[name] = Scores.of_items({s: f[column].to_numpy(np.float64) for s, f in frames.items()})
            groups[name] = frame["group"].to_numpy(str)
    blocks = {seed: r.pseudo_values() for seed, r in good.items()}
    shared = next((f for f in blocks.values() if f is not None), pd.DataFrame())
    for name in (column for column in shared.columns if column != "block"):
        order = sorted(good)
        parts = [f[name].to_numpy(np.float64) for s in order if (f := blocks[s]) is not None]
        if len(parts) == len(order) and len(parts[0]):
            values = np.asarray([(good[s].record.quality or {})[name] for s in order], np.float64)
            figures[name] = Scores(tuple(order), np.stack(parts), values)
            groups[name] = shared["block"].to_numpy().astype(str)
    return MethodScores(figures, groups)
