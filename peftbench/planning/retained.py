"""The tasks of `--retain`, checked before anything runs: a model must be able to do them as it is before training."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping, Sequence

from ..errors import NotSupported, UsageError
from ..execution import retention
from ..models.load import decoder_start, tokenizer_for
from ..models.resolve import kind_of
from ..models.source import Source
from ..objectives.base import Objective
from ..plugins import build
from ..records.runs import RETAIN_JOINED
from .places import paths_in

NEW_HEAD = "sequence"  # what `Objective.head_for` says of numbers for a text: no checkpoint brings that head


def ordered(named: Mapping[str, Mapping[str, str]], trained: Collection[str]) -> tuple[tuple[str, ...], str]:
    """The tasks in an order that neither the command's nor the files' folders change, and what their scores depend on.

    Args:
        named: canonical SPECs, each with its identity.
        trained: canonical SPECs of the tasks that are trained on.

    Raises:
        UsageError: one of them is trained on.
    """
    for name in named:
        if name in trained:
            raise UsageError(
                f"--retain {name}: it is trained on, and what is retained is of other tasks; leave it out of --retain"
            )
    sources = {name: " ".join(of_it.values()) for name, of_it in named.items()}
    names = sorted(sources, key=lambda name: (_file_names(name), sources[name]))
    return tuple(names), RETAIN_JOINED.join(sources[name] for name in names)


def _file_names(task: str) -> str:
    """A SPEC with files by their names alone."""
    for place in sorted(paths_in("task", task), key=len, reverse=True):
        task = task.replace(place, os.path.basename(place))
    return task


def check(retain: Sequence[str], model: str, source: Source, task: str) -> None:
    """Whether a model that is trained on `task` can do the tasks of `--retain` before and after.

    Raises:
        UsageError: it can't.
    """
    made_for = kind_of(source)
    head = _head(build.build_task(task).objective, made_for)
    for name in retain:
        objective = build.build_task(name).objective
        try:
            wanted = objective.head_for(made_for)
            if wanted == NEW_HEAD:
                raise UsageError(
                    f"--retain {name}: a model gets a new head for it, and can't do it before training; name tasks that it does with what "
                    "it brings, as those of writing"
                )
            if head not in (
                wanted,
                None,
            ):  # None: such a model can't be trained on the task, which is said there
                raise UsageError(
                    f"--retain {name}: for {task} the model gets a new head in the place of the one that it needs; train on a task of "
                    "writing, or leave --retain out"
                )
            objective = objective.with_decoder_start(decoder_start(source))
            tokenizer = tokenizer_for(source, objective)
        except NotSupported as error:
            said = str(error).removeprefix(f"{source.name!r} ")
            raise UsageError(f"--retain {name}: model {model!r} {said} (or leave it out)") from error
        if objective.refuses_rows:
            retention.encoded(name, objective, tokenizer, model, source.revision)


def _head(objective: Objective, made_for: str) -> str | None:
    """Which head a task asks of a model; None where such a model can't do it."""
    try:
        return objective.head_for(made_for)
    except NotSupported:
        return None
