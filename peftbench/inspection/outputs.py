"""What goes into an exported model and what comes out of it: it is in the task, not in the weights."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..records.runs import Run


def name_labels(config: Any, names: Sequence[str], file: Path) -> None:
    """Write a config's labels out: the library leaves out two, and a family may have another number where none are named."""
    said = json.loads(file.read_text(encoding="utf-8"))
    labels = dict(enumerate(names)) or config.id2label
    said |= {"id2label": labels, "label2id": {label: at for at, label in labels.items()}}
    if len(labels) == 1:  # else the library's pipelines take one output for the logit of a yes
        said["problem_type"] = "regression"
    file.write_text(json.dumps(said, indent=2) + "\n", encoding="utf-8")


def _is_its_data(run: Run) -> bool:
    """Whether the run's task is what it was: it says what the outputs stand for."""
    from ..plugins.build import task_identity

    return task_identity(run.task).items() <= run.identity.items()


def output_names(run: Run) -> tuple[str, ...]:
    """What each of the head's outputs stands for; empty: not known, or they have no names."""
    from ..execution.prepare import objective_of

    objective = objective_of(run)
    return objective.output_names if objective is not None and _is_its_data(run) else ()


def said_of_use(run: Run, tokenizer: Any) -> list[str]:
    """What the card says of inputs and outputs."""
    from ..execution.prepare import objective_of

    objective = objective_of(run)
    if objective is None:
        return []
    if not _is_its_data(run):
        return [
            "The task or its data changed since the run, so what goes in and what the outputs mean is not said here."
        ]
    names = ", ".join(f"{at} `{name}`" for at, name in enumerate(objective.output_names))
    return [*([f"Its outputs: {names}."] if names else []), *objective.said_of_use(tokenizer)]
