"""Every method in two processes against one: losses, checks, and what the saved file gives in one process.

    python benchmarks/ranks.py [--methods lora,full] [--models bert,llama] [--steps 20] [--table FILE]

Two tiny models without dropout (which draws other numbers for other items), on CPUs by gloo, in float32. Each run is the program's own,
with all of its checks; the two-process run is then loaded into one process and asked for its test items again.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from peftbench import jobs
from peftbench.comparison.request import Comparison
from peftbench.engine.jobs import Execute
from peftbench.execution import prepare, restore, score, train
from peftbench.measure.environment import capacity
from peftbench.planning.plan import plan
from peftbench.plugins import build, registry
from peftbench.records.record import FAIL, Record
from peftbench.records.runs import PARALLEL, Conditions, Run

MODELS = {"bert": "tiny-encoder", "llama": "tiny-decoder"}
WORDS = "cat dog horse cow owl", "saw drill hammer wrench file"
WITHOUT_RUN = ("peft",)  # needs a type


@dataclass(frozen=True)
class Compared:
    """One method in two processes and in one."""

    method: str
    model: str
    parallel: str
    loss_apart: float | None  # the largest difference of a step's loss
    said: str  # why there is none
    failed: tuple[str, ...] = ()  # checks
    nll_apart: float | None = None  # of an item, between two processes and one that loaded their file
    peak_share: float | None = None  # of one process's peak, the higher of the two


def compared(name: str, run: Run, alone: Record, parallel: str, out: Path) -> Compared:
    """A run in two processes, beside the same in one."""
    shared = replace(run, ranks=2, parallel=parallel)
    record = done(shared, out)
    if record.status != "ok":
        return Compared(run.method, name, parallel, None, f"{record.status}: {record.reason}")
    losses = [np.array((one.training or {}).get("losses", [0.0])) for one in (alone, record)]
    failed = tuple(check["name"] for check in record.checks or () if check["outcome"] == FAIL)
    frame = pd.read_parquet(out / "predictions.parquet")
    again = scored_alone(run, out)
    apart = float(np.abs(frame["nll"].to_numpy() - again["nll"].to_numpy()).max())
    peaks = [((one.memory or {})["train"] or {})["peak_above_model_bytes"] for one in (alone, record)]
    return Compared(
        run.method,
        name,
        parallel,
        float(np.abs(losses[0] - losses[1]).max()),
        "",
        failed,
        apart,
        peaks[1] / max(peaks[0], 1),
    )


def done(run: Run, out: Path) -> Record:
    """A run as the program does it."""
    out.mkdir(parents=True)
    answer = jobs.do(Execute(run, Conditions(threads=1, keep_weights=True)), out)
    return Record.from_text(answer["record"])


def scored_alone(run: Run, folder: Path) -> pd.DataFrame:
    """The test items of a stored run, scored by its saved weights in this process."""
    prepared = restore.rebuilt(run, folder)
    task = build.build_task(run.task)
    encoded = prepare.encode(run, task, prepared.tokenizer)["test"]
    accelerator = train.accelerator_for("cpu", run.dtype)
    objective = prepare.objective_for(run, task)
    at_once = score.items_at_once(run.budget.max_length)
    scorer = score.Scorer(prepared.adaptation.model, objective, prepared.tokenizer, accelerator, at_once)
    return scorer.predict(encoded)


def without_dropout(name: str, folder: Path) -> str:
    """A starter model whose config asks for none, in a folder of its own."""
    from peftbench.models.resolve import resolve_model

    home = folder / f"{name}-without-dropout"
    source = Path(resolve_model(name).location)
    home.mkdir()
    for file in source.iterdir():
        (home / file.name).write_bytes(file.read_bytes())
    config = json.loads((home / "config.json").read_text())
    config |= {key: 0.0 for key, value in config.items() if "drop" in key and isinstance(value, float)}
    (home / "config.json").write_text(json.dumps(config))
    return str(home)


def texts(folder: Path) -> str:
    """A task to write which kind of words are more, in a file of its own."""
    random = np.random.default_rng(0)
    rows = []
    for _ in range(200):
        kinds = random.integers(0, 2, 5)
        words = " ".join(str(random.choice(WORDS[kind].split())) for kind in kinds)
        rows.append({"prompt": f"{words} ->", "completion": ("animals", "tools")[int(kinds.sum() > 2)]})
    file = folder / "texts.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return f"jsonl:path={file}:prompt=prompt:completion=completion:max_new_tokens=4"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--methods", default=None)
    parser.add_argument("--models", default=",".join(MODELS))
    parser.add_argument("--parallel", default=",".join(PARALLEL))
    parser.add_argument("--steps", type=int, default=20)
    given = parser.parse_args()
    torch.set_num_threads(1)
    names = (
        given.methods.split(",")
        if given.methods
        else [n for n in registry.load("method") if n not in WITHOUT_RUN]
    )
    with tempfile.TemporaryDirectory() as folder:
        written = texts(Path(folder))
        for name in given.models.split(","):
            task = written if name == "llama" else "synthetic"
            own = without_dropout(MODELS[name], Path(folder))
            for method in names:
                asked = Comparison(
                    methods=(method,), models=(own,), tasks=(task,), baselines=False, seeds=1, steps=given.steps, device="cpu",
                    dtype="float32", latency_grid=(), profile=False,
                )  # fmt: skip
                try:
                    run = plan(asked, capacity())[0].run
                except Exception as error:  # noqa: BLE001  a method that can't serve this model
                    print(f"{method} on {name}: {error}", flush=True)
                    continue
                home = Path(folder) / f"{name}-{method}".replace("/", "_")
                alone = done(run, home / "1")
                for parallel in given.parallel.split(","):
                    print(compared(name, run, alone, parallel, home / parallel), flush=True)


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    main()
