"""What is measured of a method's costs, each figure declared once.

Columns, axes, pictures, comparisons, the gate, limits, CSV, JSON and footnotes read these declarations. A new measure is one entry
of `MEASURES`, and what writes its raw figure into the record. Families (metrics of quality, a slow-down for each cell of a grid) are
made where they are shown: they have statistics of their own.

The command line reads this module at every start: it imports no arrays.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .limits import Limit, count, energy, share, size

if TYPE_CHECKING:
    from ..records.record import Record

SCORE = "score"  # stands for the primary metric, whatever a task calls it
COLUMN, AXIS, PICTURE, COMPARED = "column", "axis of the page", "axis of a picture", "compare and its gate"
EVERYWHERE = frozenset((COLUMN, AXIS, PICTURE, COMPARED))


@dataclass(frozen=True)
class Measure:
    """One figure of a method."""

    name: str  # as --columns, --sort and --fail-on know it
    raw: str  # as CSV, JSON and pandas know it, with the unit that it is kept in; "": they have one for each cell of a grid
    label: str
    unit: str  # that it is shown in; "": a plain number
    of_runs: Callable[
        [Sequence[Record]], float | None
    ]  # of a method's good runs; of one run alone, that seed's
    scale: float = 1.0  # kept units in one that is shown
    form: str = ",.0f"  # of the shown number
    exact: bool = False  # counted, so that one run tells it where all have the same; else sampled, over cost runs or seeds
    of_run: bool = False  # it grows with the steps of a training run, of which a cost run does some
    higher_is_better: bool = False
    log: bool = False  # where every value is above 0, a logarithmic axis fits
    on_axis: str = ""  # label of an axis, where the short one says too little
    places: frozenset[str] = EVERYWHERE
    always: bool = False  # its column stands there although no row knows it
    limit: Limit | None = None  # of `--advise`
    note: str = ""  # a footnote where some row knows it; names of `Costs` in braces

    @property
    def header(self) -> str:
        return f"{self.label} {self.unit}".strip()

    @property
    def axis(self) -> str:
        return (self.on_axis or self.label) + (f", {self.unit}" if self.unit else "")

    def shown(self, figure: float) -> float:
        """In the unit that it is shown in."""
        return figure / self.scale

    def text(self, figure: float) -> str:
        return f"{self.shown(figure):{self.form}}"

    def with_unit(self, figure: float) -> str:
        return self.text(figure) + ("%" if self.unit == "%" else f" {self.unit}".rstrip())


def measures() -> tuple[Measure, ...]:
    """All of them, in the order of columns. Comparisons and limits go backwards: what was taken before what was counted."""
    return MEASURES


def measures_in(place: str) -> list[Measure]:
    """Those that are shown in one place."""
    return [measure for measure in measures() if place in measure.places]


def limited() -> dict[str, tuple[Measure, Limit]]:
    """By name, those that `--advise` may be limited by."""
    return {m.name: (m, m.limit) for m in reversed(measures()) if m.limit is not None}


def apart_from(metric: str, others: Collection[str]) -> str:
    """What a metric is called where other figures have names of their own, which a task's metric may have been given, too."""
    return f"{metric} (metric)" if metric in others else metric


def headline_bytes(peak: Mapping[str, Any] | None) -> int | None:
    """The figure that stands for a peak: allocated on a GPU, above the model on a CPU."""
    if peak is None:
        return None
    allocated: int | None = peak["peak_allocated_bytes"]
    above: int | None = peak["peak_above_model_bytes"]
    return allocated if allocated is not None else above


def median_of(values: Sequence[int | None]) -> int | None:
    """The median of those that are known."""
    import statistics

    known = [value for value in values if value is not None]
    return int(statistics.median(known)) if known else None


def _mean_of(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return math.fsum(known) / len(known) if known else None


def _counted(name: str) -> Callable[[Sequence[Record]], float | None]:
    """Of what training leaves of a method, as AdaLoRA's triplets, seeds may leave more or less."""
    return lambda runs: median_of([(run.parameters or {}).get(name) for run in runs])


def _peak_bytes(runs: Sequence[Record]) -> float | None:
    return median_of([headline_bytes((run.memory or {}).get("train")) for run in runs])


def _stepped(runs: Sequence[Record]) -> list[dict[str, Any]]:
    return [run.training for run in runs if run.training and run.training.get("step_s")]


def _step_ms(runs: Sequence[Record]) -> float | None:
    """The median of the steps of all runs together."""
    stepped = _stepped(runs)
    if not stepped:
        return None
    import numpy as np

    from ..stats.estimate import after_warmup

    return float(np.quantile(np.concatenate([after_warmup(t["step_s"]) for t in stepped]), 0.5)) * 1e3


def _compiled_step_ms(runs: Sequence[Record]) -> float | None:
    from .compiled import compiled_of

    found = compiled_of(runs)
    return None if found is None or isinstance(found, str) else found.step_ms


def _tokens_per_s(runs: Sequence[Record]) -> float | None:
    stepped = _stepped(runs)
    if not stepped:
        return None
    import numpy as np

    from ..stats.estimate import after_warmup

    tokens = sum(float(after_warmup(t["tokens"]).sum()) for t in stepped)
    return tokens / float(np.concatenate([after_warmup(t["step_s"]) for t in stepped]).sum())


def _train_s(runs: Sequence[Record]) -> float | None:
    def of(training: Mapping[str, Any]) -> float | None:
        if "fit_s" in training:
            return float(training["fit_s"])
        return float(sum(training["step_s"])) if training.get("step_s") else None

    return _mean_of([of(run.training or {}) for run in runs])


def _train_energy_j(runs: Sequence[Record]) -> float | None:
    return _mean_of([(run.training or {}).get("energy_j") for run in runs])


def _energy_per_item_j(runs: Sequence[Record]) -> float | None:
    scored = [run.scoring for run in runs if run.scoring and run.scoring["energy_j"] is not None]
    return _mean_of([scoring["energy_j"] / scoring["items"] for scoring in scored])


def _of_no_training(runs: Sequence[Record]) -> float | None:
    """It comes of other runs: see `costs`."""
    return None


TRAINED = Measure(
    "trained", "adapter_parameters", "trained", "", _counted("adapter"), exact=True, log=True, always=True,
    on_axis="trained parameters without the head",
    limit=Limit("--max-trained", "Trained parameters without the head.", count),
)  # fmt: skip
HEAD = Measure(
    "head", "head_parameters", "head", "", _counted("head"), exact=True, places=frozenset((COLUMN,)), always=True
)  # fmt: skip
STORED = Measure(
    "stored", "stored_bytes", "stored", "kB", _counted("stored_bytes"), 1e3, exact=True, log=True, always=True,
    places=EVERYWHERE - {PICTURE}, limit=Limit("--max-stored", "Size of the saved file, as in 10MB.", size),
)  # fmt: skip
SLOWDOWN = Measure(
    "slowdown", "", "slow-down", "%", _of_no_training, 0.01, "+.1f", places=frozenset(),
    limit=Limit("--max-slowdown", "Slow-down of inference (merged if the method merges), as in 2%.", share),
)  # fmt: skip
PEAK = Measure(
    "peak", "train_peak_bytes", "train peak", "MB", _peak_bytes, 1e6, always=True,
    limit=Limit("--max-vram", "Peak memory of training, as in 16GB.", size),
)  # fmt: skip
STEP = Measure(
    "step", "step_ms", "step", "ms", _step_ms, form=",.1f", always=True, on_axis="training step",
    places=EVERYWHERE - {PICTURE},
)  # fmt: skip
COMPILED_STEP = Measure(
    "compiled", "compiled_step_ms", "compiled step", "ms", _compiled_step_ms, form=",.1f", places=frozenset((COLUMN,)),
)  # fmt: skip
TOKENS = Measure(
    "tokens", "tokens_per_s", "tokens/s", "", _tokens_per_s, higher_is_better=True, always=True,
    places=frozenset((COLUMN,)),
)  # fmt: skip
TRAIN_S = Measure("train_s", "train_s", "training", "s", _train_s, of_run=True, places=frozenset((AXIS,)))
TRAIN_ENERGY = Measure(
    "train_energy", "train_energy_j", "train energy", "J", _train_energy_j, of_run=True,
    limit=Limit("--max-train-energy", "Energy of one training run, as in 2kJ.", energy),
    note="of one training run ({energy_kind}, other processes included)",
)  # fmt: skip
ENERGY = Measure(
    "energy", "energy_per_item_j", "energy per item", "J", _energy_per_item_j, form=",.3g",
    limit=Limit("--max-energy", "Energy of scoring one test item, as in 20mJ.", energy),
    note="of scoring, over its items ({energy_kind}, other processes included)",
)  # fmt: skip
MEASURES = (TRAINED, HEAD, STORED, SLOWDOWN, PEAK, STEP, COMPILED_STEP, TOKENS, TRAIN_S, TRAIN_ENERGY, ENERGY)
