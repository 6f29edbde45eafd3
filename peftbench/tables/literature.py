"""Results that others printed, to stand beside what is measured here, and how far their order survives the error of their test items.

Three sources: a table that comes with the program (`lora-paper`), a CSV file with the same columns, and result files of the PEFT library's
method comparison (a JSON file or a folder of them), of both generations: its memory figures were called `cuda_memory_*` first and
`accelerator_memory_*` later. Figures are taken over as they were printed; nothing is computed of them but the items' error where the number
of items is known.
"""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scipy import special

from ..errors import UsageError, unknown
from ..folders import expanded
from ..stats.estimate import ALPHA, holm

BUILT_IN = Path(__file__).with_name("literature_data")
COLUMNS = (
    "source",
    "table",
    "task",
    "model",
    "method",
    "parameters",
    "metric",
    "value",
    "spread",
    "settings",
)


# The test items behind a data set's name in a PEFT result file.
TEST_ITEMS = {"gsm8k": 1319}
QUALITY = ("test accuracy", "test dino_similarity")


@dataclass(frozen=True)
class PublishedRow:
    """One printed figure of quality, with what was printed beside it."""

    source: str
    task: str
    model: str
    method: str
    parameters: str  # as printed
    metric: str
    value: float | None  # as printed: percent for a share; None where the run failed
    spread: str  # as printed behind ±, or what the items' error alone gives
    settings: str
    peak_bytes: int | None = None
    train_s: float | None = None
    stored_bytes: int | None = None


def published_rows(asked: str) -> list[PublishedRow]:
    """The rows of a built-in table by its name, of a CSV file, or of PEFT's result files.

    Raises:
        UsageError: there is no such table, or a file is none of these.
    """
    built_in = {file.stem: file for file in sorted(BUILT_IN.glob("*.csv"))}
    place = built_in.get(asked) or expanded(asked, "--published")
    if place.is_dir():
        files = sorted(place.rglob("*.json"))
        if not files:
            raise UsageError(f"--published {asked!r} holds no *.json file of a result")
        return [_peft(file) for file in files]
    if not place.is_file():
        raise unknown(
            "--published", asked, built_in, f"{', '.join(built_in)}, a CSV file, or PEFT's result files"
        )
    return [_peft(place)] if place.suffix == ".json" else _table(place)


def _table(file: Path) -> list[PublishedRow]:
    try:
        with file.open(encoding="utf-8-sig", newline="") as source:
            reader = csv.DictReader(source)
            rows, there = list(reader), reader.fieldnames or ()
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UsageError(f"--published {str(file)!r} can't be read: {error}") from error
    lacking = [name for name in COLUMNS if name not in there]
    if lacking:
        raise UsageError(
            f"--published {str(file)!r} lacks the columns {', '.join(lacking)}; it needs {','.join(COLUMNS)}"
        )
    found = []
    for number, row in enumerate(rows, start=2):
        try:
            value = math.nan if None in row.values() else float(row["value"])
        except ValueError:
            value = math.nan
        if not math.isfinite(value):
            said = f"value {row['value']!r} is no number" if None not in row.values() else "cells are missing"
            raise UsageError(f"--published {str(file)!r}, line {number}: {said}")
        found.append(
            PublishedRow(f"{row['source']}, {row['table']}", row["task"], row["model"], row["method"], row["parameters"],
                         row["metric"], value, row["spread"], row["settings"])
        )  # fmt: skip
    return found


def _peft(file: Path) -> PublishedRow:
    """One result file of the PEFT library's method comparison."""
    try:
        return _peft_row(json.loads(file.read_text(encoding="utf-8")))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
        raise UsageError(
            f"{str(file)!r} is no result file of PEFT's method comparison: {type(error).__name__} {error}"
        ) from error


def _peft_row(content: Any) -> PublishedRow:
    run, train, meta = (content[name] for name in ("run_info", "train_info", "meta_info"))
    config = run["train_config"]
    method, status = str(run["experiment_name"]), str(train["status"])
    parameters = train.get("num_trainable_params")
    last: Mapping[str, Any] = train["metrics"][-1] if train.get("metrics") else {}
    metric = next((name for name in QUALITY if name in last), QUALITY[0])
    value = last.get(metric) if status == "success" else None
    data = [name for name, known in (meta.get("dataset_info") or {}).items() if known]
    items = next((TEST_ITEMS[name] for name in data if name in TEST_ITEMS), None)
    share = None if value is None or metric != QUALITY[0] else float(value)
    half = None if share is None or items is None else wilson_half_width(share, items)
    optimizer = config.get("optimizer_kwargs") or {}
    settings = {
        "status": None if status == "success" else f"{status}: {run.get('error_msg') or ''}",
        "learning rate": optimizer.get("lr"),
        "seed": config.get("seed"),
        "steps": config.get("max_steps"),
        "batch": config.get("batch_size"),
        "length": config.get("max_seq_length"),
        "dtype": config.get("dtype"),
        "forgetting": last.get("forgetting"),
        "library": ((meta.get("package_info") or {}).get("peft-version")),
        "on": (meta.get("system_info") or {}).get("gpu")
        or (meta.get("system_info") or {}).get("accelerator"),
    }
    return PublishedRow(
        source=f"PEFT method comparison, {str(run.get('created_at') or 'undated')[:10]}",
        task=" and ".join(data) or "unknown",
        model=str(config.get("model_id", "unknown")),
        method=method,
        parameters="" if parameters is None else f"{parameters:,}",
        metric=metric,
        value=share * 100 if share is not None else (None if value is None else float(value)),
        spread="" if half is None else f"{half * 100:.1f} over items",
        settings=", ".join(f"{name} {known}" for name, known in settings.items() if known is not None),
        peak_bytes=train.get("accelerator_memory_max", train.get("cuda_memory_max")),
        train_s=train.get("train_time"),
        stored_bytes=train.get("file_size"),
    )


def wilson_half_width(share: float, items: int) -> float:
    """Half of the width of Wilson's 95 % interval of a share of right items."""
    z = float(special.ndtri(1 - ALPHA / 2))
    return z * math.sqrt(share * (1 - share) / items + z**2 / (4 * items**2)) / (1 + z**2 / items)


@dataclass(frozen=True)
class Rank:
    """A place in a published table, and which places the items' error leaves open."""

    method: str
    share: float
    best: int  # 1 + how many are shown to be better
    worst: int  # how many there are, less those shown to be worse


def rank_ranges(shares: Mapping[str, float], items: int) -> list[Rank]:
    """The range of each rank by tests of two shares of so many items each, Holm-corrected over all pairs.

    The tests are unpaired, as a published table has no item's outcome; on the same items paired ones would tell more apart.
    """
    names = sorted(shares, key=lambda name: -shares[name])
    pairs = [(i, j) for i in range(len(names)) for j in range(i)]
    p = holm([p_of_two(shares[names[i]], shares[names[j]], items) for i, j in pairs])
    better, worse = [0] * len(names), [0] * len(names)
    for (i, j), corrected in zip(pairs, p, strict=True):
        if corrected <= ALPHA:  # j stands before i
            better[i] += 1
            worse[j] += 1
    return [Rank(name, shares[name], 1 + better[k], len(names) - worse[k]) for k, name in enumerate(names)]


def p_of_two(one: float, other: float, items: int) -> float:
    """Two-sided p of two equal shares, by the pooled normal test."""
    pooled = (one + other) / 2
    error = math.sqrt(2 * pooled * (1 - pooled) / items)
    return 1.0 if error == 0 else float(2 * special.ndtr(-abs(one - other) / error))


def of_task(rows: Iterable[PublishedRow], task: str) -> list[PublishedRow]:
    """Those of a task, whatever fields its SPEC has."""
    return [row for row in rows if row.task == task.partition(":")[0]]
