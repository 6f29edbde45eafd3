"""`peftbench check` of a task: its splits, labels and metrics, looked at on its own data; nothing is trained.

A metric is held to both its ends: of the references themselves it must be perfect, of the same references in another
order it must be chance (for classes and numbers) or clearly worse (for texts).
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from ..errors import NotSupported, PeftbenchError, UsageError
from ..execution import batches
from ..execution.proof import Checked
from ..models.load import Loaded, load_model
from ..models.resolve import resolve_model
from ..objectives.base import OF_OPTIONS, SPLITS, Objective, is_by_token
from ..plugins import build
from ..plugins.contracts import Task
from ..records.record import FAIL, PASS
from .encoding import wrong_items
from .losses import disagreement
from .predictions import judged, wrong_predictions

NOTICE = "notice"  # worth knowing, and no failure
SEEN = 0.05  # of the test rows: with more of them in training, memory alone could explain five points
KNOWN = 0.5  # of a split's groups: with more of them in another one, the cut was not made by group
SHUFFLES = 20
SPREADS = 5.0  # standard errors that chance may miss its expectation by: once in a million
CLEARLY = 0.05  # of a perfect text's score: what another text's must lack at least
ROWS = 16  # that go through a model
READ = 2000  # of a split, of which the lengths are looked at
MODELS = ("tiny-encoder", "tiny-decoder")  # the first that can do it
Values = npt.NDArray[Any]
Outcome = tuple[str, str]  # PASS or FAIL, and what was seen


def check_task(text: str) -> list[Checked]:
    """Check the task of a SPEC."""
    found: list[Checked] = []

    def note(name: str, look: Callable[[], Outcome]) -> bool:
        try:
            outcome, detail = look()
        except UsageError:
            raise  # says itself what is wrong with the data, or that they are not here
        except PeftbenchError as error:
            outcome, detail = FAIL, str(error)
        except Exception as error:  # noqa: BLE001  whatever a stranger's task raises is what it is checked for
            outcome, detail = FAIL, " ".join(f"{type(error).__name__}: {error}".split())[:300]
        found.append(Checked(text, "", name, outcome, detail))
        return outcome != FAIL

    task = build.build_task(text)
    splits: dict[str, Any] = {}

    def read() -> Outcome:
        splits.update(task.splits())
        return _columns(splits, task.objective)

    if not note("columns", read):
        return found
    found.extend(Checked(text, "", "data", NOTICE, said) for said in build.notices_of(task))
    note("same again", lambda: _again(task, build.build_task(text), splits))
    note("disjoint", lambda: _disjoint(splits, task.objective))
    if note("labels", lambda: (PASS, task.objective.check_rows(splits))):
        ends = task.objective.perfect(splits["test"])
        note("perfect", lambda: _perfect(task.objective, *ends))
        note("shuffled", lambda: _shuffled(task.objective, *ends))
        note("model", lambda: _through_a_model(text, task, splits))
    return found


def _columns(splits: dict[str, Any], objective: Objective) -> Outcome:
    wanted = (objective.inputs[0], objective.target)
    for split in SPLITS:
        if split not in splits or not len(splits[split]):
            return FAIL, f"there are no rows in its {split} split"
        if lacking := [name for name in wanted if name not in splits[split].column_names]:
            has = ", ".join(splits[split].column_names)
            return FAIL, f"its {split} split has no column {lacking[0]!r}; it has {has}"
    sizes = ", ".join(f"{len(splits[split]):,} {split}" for split in SPLITS)
    return PASS, sizes


def _again(task: Task, other: Task, splits: dict[str, Any]) -> Outcome:
    if not task.fingerprint() or task.fingerprint() != other.fingerprint():
        return FAIL, "fingerprint() is empty, or differs each time"
    again = other.splits()
    changed = [
        s
        for s in SPLITS
        if len(again[s]) != len(splits[s]) or repr(again[s][:ROWS]) != repr(splits[s][:ROWS])
    ]
    return (FAIL, f"its {changed[0]} split differs each time") if changed else (PASS, "")


def _disjoint(splits: dict[str, Any], objective: Objective) -> Outcome:
    """Whether what is tested was trained on."""
    read = objective.inputs
    seen = set(_texts(splits["train"], read)) | set(_texts(splits["validation"], read))
    test = list(_texts(splits["test"], read))
    again = sum(text in seen for text in test)
    outcome = FAIL if again > SEEN * len(test) else NOTICE if again else PASS
    said = f"{again:,} of {len(test):,} test rows have a text of the training or validation split"
    if outcome != FAIL and all("group" in rows.column_names for rows in splits.values()):
        groups = {split: set(map(str, rows["group"])) for split, rows in splits.items()}
        for one, other in (("train", "validation"), ("train", "test"), ("validation", "test")):
            if both := groups[one] & groups[other]:
                share = len(both) / len(groups[other])
                said += f"; {len(both):,} of {len(groups[other]):,} groups of {other} are in {one} ({min(both)[:40]!r})"
                outcome = FAIL if share > KNOWN or outcome == FAIL else NOTICE
    return outcome, said


def _texts(rows: Any, inputs: Sequence[str]) -> Iterator[str]:
    names = [name for name in inputs if name in rows.column_names]
    for batch in rows.iter(batch_size=10_000):
        yield from (" \0 ".join(map(str, row)) for row in zip(*(batch[name] for name in names), strict=True))


def _perfect(objective: Objective, predicted: Values, references: Values) -> Outcome:
    found = objective.score(predicted, references)
    if objective.metric.name not in found:
        return FAIL, f"score() does not give its primary metric {objective.metric.name!r}"
    noticed = []  # a metric beside the primary one may not fit the texts: BLEU of two words
    facts = {metric.name: metric for metric in objective.reported}
    for name, value in found.items():
        known = facts.get(name)
        if known is None or (not known.is_share and known.higher_is_better):
            continue  # no end is known (NIST, CIDEr)
        best = 1.0 if known.higher_is_better else 0.0
        if not math.isclose(value, best, abs_tol=1e-6):
            missed = f"{name} of the references themselves is {value:.4g}, not {best:g}"
            if name == objective.metric.name:
                return FAIL, missed
            noticed.append(missed)
    return (NOTICE, "; ".join(noticed)) if noticed else (PASS, _said(found))


def _shuffled(objective: Objective, predicted: Values, references: Values) -> Outcome:
    perfect = objective.score(predicted, references)
    generator = np.random.default_rng(0)
    shuffles = 1 if references.dtype == object else SHUFFLES  # texts are dear to score
    scores = [objective.score(generator.permutation(predicted), references) for _ in range(shuffles)]
    found = {name: float(np.mean([score[name] for score in scores])) for name in perfect}
    chance = objective.chance(references)
    for name, value in found.items():
        expected = chance.get(name)
        spread = float(np.std([score[name] for score in scores])) / math.sqrt(shuffles)
        if expected is not None and abs(value - expected) > SPREADS * spread + 1 / len(references):
            return FAIL, f"{name} of shuffled references is {value:.4f}, and chance is {expected:.4f}"
        distance = abs(perfect[name] - value)
        if expected is None and distance < CLEARLY * max(abs(perfect[name]), abs(value)):
            return (
                FAIL,
                f"{name} of shuffled references is {value:.4g}, hardly worse than their own {perfect[name]:.4g}",
            )
    return PASS, _said(found)


def _through_a_model(text: str, task: Task, splits: dict[str, Any]) -> Outcome:
    """Whether its rows become tokens, a loss and predictions, with a tiny model, and what is lost on the way."""
    loaded = _loaded(task.objective)
    split = _encoded(text, task, loaded, splits["train"], ROWS)
    batch = batches.collate(
        split, np.arange(len(split)), batches.padding(loaded.tokenizer), torch.device("cpu")
    )
    with torch.no_grad():
        logits = loaded.model(**batches.inputs_of(batch)).logits
        loss = float(task.objective.loss(logits, batch))
        predictions = task.objective.predict(logits, batch)
    if not math.isfinite(loss):
        return FAIL, f"the loss of {loaded.source.name} on its first rows is {loss}"
    if task.objective.judges:
        if not is_by_token(task.objective):
            return FAIL, "it judges options, which needs a loss by token: its loss() or predict() is another"
        predictions |= judged(task.objective, loaded, split)
    lacking = {"nll"} | (set() if task.objective.decoding is not None else {"prediction", "reference"})
    if lacking := lacking - set(predictions):
        return FAIL, f"predict() gives no {min(lacking)!r}"
    if odd := [name for name, its in predictions.items() if np.shape(its)[:1] != (len(split),)]:
        return (
            FAIL,
            f"predict() gives {odd[0]!r} in shape {np.shape(predictions[odd[0]])} of {len(split)} items",
        )
    for wrong in (disagreement, wrong_predictions):
        if (said_of := wrong(task.objective, logits, batch, predictions)) is not None:
            return FAIL, said_of
    said = f"loss {loss:.3f} with {loaded.source.name}"
    encoded = {split: _encoded(text, task, loaded, splits[split], READ) for split in SPLITS}
    for name, its in encoded.items():
        rows = min(READ, len(splits[name]))
        if (
            wrong_of := wrong_items(task.objective, its, rows, loaded.tokenizer, build.length_of(text))
        ) is not None:
            return FAIL, f"{name}: {wrong_of}"
    if not (found := batches.told(task.objective, encoded)):
        return PASS, said
    return NOTICE, f"{said}; at {build.length_of(text)} tokens, a letter a token: {'; '.join(found)}"


def _encoded(text: str, task: Task, loaded: Loaded, rows: Any, most: int) -> batches.Encoded:
    """At most so many rows, evenly spread, in tokens."""
    chosen = np.linspace(0, len(rows) - 1, min(most, len(rows))).round().astype(int)
    told = task.objective.encode(loaded.tokenizer, rows[chosen.tolist()], build.length_of(text))
    lists = {
        name: batches.Ragged(np.concatenate(its), np.cumsum([0, *map(len, its)]))
        for name, its in told.items()
        if its and isinstance(its[0], list)
    }
    numbers = {name: np.asarray(its) for name, its in told.items() if name not in lists}
    counted = {name: numbers.pop(name) for name in task.objective.counted if name in numbers}
    of_options = {name: lists.pop(name) for name in OF_OPTIONS if name in lists}
    return batches.Encoded(lists, numbers, counted=counted, of_options=of_options)


def _loaded(objective: Objective) -> Loaded:
    """The first of the tiny models that can do what is asked."""
    for name in MODELS[:-1]:
        with contextlib.suppress(NotSupported):
            return load_model(resolve_model(name), objective, 0)
    return load_model(resolve_model(MODELS[-1]), objective, 0)


def _said(found: dict[str, float]) -> str:
    return ", ".join(f"{name} {value:.4g}" for name, value in found.items())
