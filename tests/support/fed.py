"""Models without dropout, and the parts of batches that train them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from peftbench.execution import batches, prepare
from peftbench.execution.parts import Parts
from peftbench.execution.train import accelerator_for, train
from peftbench.plugins import build
from peftbench.records.runs import Run

Make = Callable[..., Run]


def uneven(folder: Path) -> str:
    """SPEC of a task of writing whose texts have from 13 to 45 tokens."""
    file = folder / "texts.jsonl"
    file.write_text(
        "".join(f'{{"q": "ask {"x" * (i % 11)}", "a": "say {i} {"y" * (7 * i % 23)}"}}\n' for i in range(60))
    )
    return f"jsonl:path={file}:prompt=q:completion=a"


def fed(run: Run, objective: Any = None) -> tuple[prepare.Prepared, Parts]:
    """A model without dropout, and the training split's parts."""
    task = build.build_task(run.task)
    objective = objective or prepare.objective_for(run, task)
    prepared = prepare.prepare(run, objective, "cpu")
    for module in prepared.adaptation.model.modules():
        vars(module).update(
            {name: 0.0 for name in ("p", "dropout") if isinstance(vars(module).get(name), float)}
        )
    encoded = prepare.encode(run, task, prepared.tokenizer)["train"]
    return prepared, Parts(encoded, objective, batches.padding(prepared.tokenizer), torch.device("cpu"))


def losses_of(run: Run, objective: Any = None) -> tuple[list[float], list[float]]:
    """Of each step the loss and the gradient's norm."""
    prepared, parts = fed(run, objective)
    accelerator = accelerator_for("cpu", "float32")
    seen = train(prepared, parts.data, parts.objective, run, parts.pad, accelerator)
    return seen.losses, seen.gradient_norms
