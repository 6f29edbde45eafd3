"""Every method in two processes against one: losses, checks, and what the saved file gives in one process.

    python benchmarks/ranks.py [--methods lora,full] [--models bert,llama] [--steps 20]

Two tiny models without dropout (which draws other numbers for other items), on CPUs by gloo, in float32. Each run is the program's own,
with all of its checks; what the two processes saved is then loaded into one, which scores the test items again.
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
from peftbench.errors import UsageError
from peftbench.execution import prepare, restore, score, train
from peftbench.measure.environment import capacity
from peftbench.planning.plan import plan
from peftbench.plugins import build, registry
from peftbench.records.record import FAIL, PASS, Record
from peftbench.records.runs import PARALLEL, Conditions, Run

MODELS = {"bert": "tiny-encoder", "llama": "tiny-decoder"}
WORDS = "cat dog horse cow owl", "saw drill hammer wrench file"
WITHOUT_RUN = ("peft",)  # needs a type


@dataclass(frozen=True)
class Compared:
    """One run in two processes, beside the same in one."""

    loss_apart: float  # the largest difference of a step's loss
    nll_apart: float  # of a test item, between the two processes and one that loaded what they saved
    checks: str  # passed of claimed


def compared(run: Run, alone: Record, parallel: str, out: Path) -> Compared | str:
    """What differs, or why the run can't be done."""
    record = done(replace(run, ranks=2, parallel=parallel), out)
    if record.status != "ok":
        return f"{record.status}: {record.reason}"
    losses = [np.array((one.training or {}).get("losses", [0.0])) for one in (alone, record)]
    outcomes = [check["outcome"] for check in record.checks or ()]
    two, one = pd.read_parquet(out / "predictions.parquet")["nll"], scored_alone(run, out)["nll"]
    return Compared(
        float(np.abs(losses[0] - losses[1]).max()),
        float(np.abs(two.to_numpy() - one.to_numpy()).max()),
        f"{outcomes.count(PASS)}/{outcomes.count(PASS) + outcomes.count(FAIL)}",
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
    parser.add_argument("--steps", type=int, default=20)
    given = parser.parse_args()
    torch.set_num_threads(1)
    names = (
        given.methods.split(",")
        if given.methods
        else [n for n in registry.load("method") if n not in WITHOUT_RUN]
    )
    print("| method | model | " + " | ".join(f"{p}: loss | file | checks" for p in PARALLEL) + " |")
    print("|---|---|" + "---|---|---|" * len(PARALLEL))
    with tempfile.TemporaryDirectory() as folder:
        written = texts(Path(folder))
        for name in given.models.split(","):
            own = without_dropout(MODELS[name], Path(folder))
            for method in names:
                home = Path(folder) / f"{name}-{method}"
                print(
                    row(method, name, own, written if name == "llama" else "synthetic", given.steps, home),
                    flush=True,
                )


def row(method: str, name: str, model: str, task: str, steps: int, home: Path) -> str:
    asked = Comparison(
        methods=(method,), models=(model,), tasks=(task,), baselines=False, seeds=1, steps=steps, device="cpu",
        dtype="float32", latency_grid=(), profile=False,
    )  # fmt: skip
    try:
        run = plan(asked, capacity())[0].run
    except UsageError as error:
        return f"| {method} | {name} | not supported: {str(error).partition(': ')[2]} |" + " |" * 5
    alone = done(run, home / "1")
    if alone.status != "ok":
        return f"| {method} | {name} | {alone.status}: {alone.reason} |" + " |" * 5
    cells = []
    for parallel in PARALLEL:
        found = compared(run, alone, parallel, home / parallel)
        cells += (
            [found, "", ""]
            if isinstance(found, str)
            else [f"{found.loss_apart:.1e}", f"{found.nll_apart:.0e}", found.checks]
        )
    return f"| {method} | {name} | {' | '.join(cells)} |"


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    main()
