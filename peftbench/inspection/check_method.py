"""`peftbench check` of a method: the checks of every run, on tiny models of three families, with a sentence on what to do.

The same `execute` does it, on a few steps at a learning rate that moves everything; `larger_weights` goes on where a few steps do
not reach. A method that can't serve a family is
no failure; one that can serve none of them is.
"""

from __future__ import annotations

import dataclasses
import os
import traceback
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from .. import defaults, progress, spec
from ..errors import Mistaken, NotSupported, UsageError, unknown
from ..execution.execute import execute
from ..execution.proof import Checked
from ..folders import expanded
from ..plugins import build, loader, registry
from ..plugins.fence import Fence
from ..records.record import FAIL, NOT_CLAIMED, PASS, Check
from ..records.runs import Budget, Conditions, Run
from .check_task import check_task
from .larger_weights import on_larger_weights, worst

# BERT, Llama, GPT-2 with its fused projections; of four blocks, for what goes wrong behind the second one.
MODELS = ("tiny-encoder-x4", "tiny-decoder-x4", "tiny-fused-x4")
STEPS, BATCH_SIZE, LEARNING_RATE = 8, 16, 1e-2
SEEDLESS_TOLERANCE = 1e-4  # nats: solvers stop near the same point
MAX_LENGTH = 64  # tokens: texts are of 11 to 64
TASK = f"{defaults.CHECK_TASK}:train_items=64:test_items=8:words=3:longest=25"


def check_file(what: str, plugins: Sequence[str], out: Path) -> list[Checked]:
    """Check a method or task by SPEC, or every one that a file registers.

    Raises:
        UsageError: there is no such method, task or file, or the file registers none.
    """
    loader.load_plugins(Path(p) for p in plugins)
    found = []
    methods, tasks = _asked(what)
    for task in tasks:
        progress.phase(task)
        found += check_task(task)
    for number, method in enumerate(methods):
        for family in MODELS:
            folder = out / f"{number}-{family}"
            folder.mkdir()
            progress.phase(f"{method} on {family}")
            found += _on(method, family, folder)
        ours = [one for one in found if one.subject == method]
        if all(one.outcome == "not supported" for one in ours):
            found.append(Checked(method, "all", "runs", FAIL, "it serves none of the three families"))
    return found


def _asked(what: str) -> tuple[list[str], list[str]]:
    """The methods and the tasks that are to be checked."""
    if not (what.endswith((".py", ".toml")) or (os.path.isfile(what) and not _answers(what))):
        if (name := spec.parse(what).name) in registry.load("task"):
            build.build_task(what)  # raises where a field is wrong
            return [], [what]
        if not registry.answers("method", name):
            known = {**registry.load("method"), **registry.load("task")}
            raise unknown(
                "method or task", name, known, "peftbench list methods|tasks, or a file of your own"
            )
        build.build_method(what)
        return [what], []
    before = {kind: set(registry.load(kind)) for kind in ("method", "task")}
    loader.load_plugins([Path(what)])
    place = expanded(what, "file").resolve()
    methods, tasks = (
        [n for n, entry in registry.load(kind).items() if entry.path == place or n not in before[kind]]
        for kind in ("method", "task")
    )
    if not methods and not tasks:
        raise UsageError(
            f"{what!r} registers no method and no task; put @method(...) or @task(...) on a frozen dataclass in it"
        )
    return methods, tasks


def _answers(what: str) -> bool:
    """Whether it begins with the name of a method or a task: then a file of that name is not meant."""
    name = what.partition(":")[0]
    return name in registry.load("task") or registry.answers("method", name)


def tiny_run(method: str, family: str) -> Run:
    """The run that a method is checked in.

    Args:
        method: SPEC.
        family: one of `MODELS`.
    """
    return Run(
        kind="training",
        method=build.canonical(method),
        model=family,
        task=TASK,
        seed=0,
        learning_rate=LEARNING_RATE,
        head_learning_rate=LEARNING_RATE,
        weight_decay=0.0,
        budget=Budget("custom", STEPS, None, BATCH_SIZE, 1, MAX_LENGTH),
        device="cpu",
        dtype="float32",
        grid=None,
        plugins=(),
        identity=dict.fromkeys(("model", "task", "data", "method"), ""),
    )


def _on(method: str, family: str, folder: Path) -> list[Checked]:
    run, fence = tiny_run(method, family), Fence()
    try:
        record = execute(run, folder, Conditions(threads=1))
        found = [Check(**one) for one in record.checks or ()]
        found += on_larger_weights(run)
        if family == MODELS[0] and build.build_method(run.method)[1].claims.seedless:
            found.append(_another_seed(run, folder))
    except NotSupported as error:
        outcome = FAIL if isinstance(error, Mistaken) else "not supported"
        return [Checked(method, family, "runs", outcome, str(error))]
    except Exception as error:  # noqa: BLE001  whatever a stranger's method raises is what it is checked for
        line = traceback.extract_tb(error.__traceback__)[-1]
        said = " ".join(
            f"{type(error).__name__}: {error} ({Path(line.filename).name}, line {line.lineno})".split()
        )
        return [Checked(method, family, "runs", FAIL, said[:300])]
    finally:
        fence.restore()
    done = [Checked(method, family, "runs", PASS, f"{STEPS} steps")]
    return done + [Checked(method, family, one.name, one.outcome, one.detail) for one in worst(found)]


def _another_seed(run: Run, folder: Path) -> Check:
    """Whether what claims to be seedless comes out the same under another seed, where both see all items."""
    epoch, found = dataclasses.replace(run.budget, steps=None, epochs=1.0), []
    for seed in (run.seed, run.seed + 1):
        place = folder / f"seed-{seed}"
        place.mkdir()
        execute(dataclasses.replace(run, seed=seed, budget=epoch), place, Conditions(threads=1))
        found.append(pd.read_parquet(place / "predictions.parquet")["nll"].to_numpy())
    one, two = found
    if np.allclose(one, two, rtol=SEEDLESS_TOLERANCE, atol=SEEDLESS_TOLERANCE):
        return Check("seed", NOT_CLAIMED, "another seed gives the same predictions")
    said = f"claims to be seedless, but another seed moves predictions by up to {np.abs(one - two).max():.1e} nats"
    return Check("seed", FAIL, said)
