"""A trained model from its stored run."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from ..data.hub import pinned
from ..errors import NotSupported, UsageError
from ..records.weights import ADAPTER, HEAD, step_file

if TYPE_CHECKING:
    from torch import nn

    from ..records.runs import Run
    from .prepare import Prepared


def load_sources(run: Run, plugins: Sequence[str]) -> None:
    """Load what a run's method and task come from.

    Args:
        plugins: files and folders where they are now, if they are not where they were.

    Raises:
        UsageError: they are nowhere.
    """
    from .. import spec
    from ..plugins import loader, registry

    loader.load_plugins(Path(p) for p in plugins)
    for kind, text in (("method", run.method), ("task", run.task)):
        name = spec.parse(text).name
        try:
            registry.find(kind, name)
        except UsageError:  # it came from a file of its own
            if gone := [p for p in run.plugins if not Path(p).exists()]:
                raise UsageError(
                    f"{kind} {name!r} came from {', '.join(gone)}, which is gone; say where it is now with --plugins FILE"
                ) from None
            loader.load_plugins(Path(p) for p in run.plugins)


@contextmanager
def where_it_was(run: Run) -> Iterator[None]:
    """For the block, relative paths are seen from the folder that the run was asked for in, where that is still there, and names
    of the hub stand for the commits that they stood for.

    Raises:
        UsageError: the block's own; where a path is gone, with the folder that it was seen from.
    """
    home = Path(run.home or ".")
    with contextlib.chdir(home) if home.is_dir() else contextlib.nullcontext(), pinned(run.pins):
        gone = [place for place in run.places if not Path(place).exists()]
        try:
            yield
        except UsageError as error:
            if not gone or run.home is None:
                raise
            raise UsageError(f"{error}; the run used {gone[0]!r} from the folder {run.home!r}") from error


def rebuilt(run: Run, folder: Path, step: int | None = None) -> Prepared:
    """The run's model with its method and what both learned.

    Args:
        step: after which step, where its weights were saved; None: at the end.

    Raises:
        UsageError: the model, the method or the task is not what it was.
    """
    with pinned(run.pins):
        return _rebuilt(run, folder, step)


def _rebuilt(run: Run, folder: Path, step: int | None) -> Prepared:
    import torch
    from safetensors.torch import load_file

    from .. import progress
    from ..models.resolve import resolve_model
    from ..plugins import build
    from . import prepare
    from .saved_steps import put_back

    if resolve_model(run.model).revision != run.identity["model"]:
        raise UsageError(f"the files of model {run.model!r} are not those that the run was trained on")
    try:
        prepared = prepare.prepare(run, prepare.objective_of(run), "cpu")
        file = folder / ADAPTER if step is None else step_file(folder, step)
        saved = load_file(file) if file.is_file() else {}
        head = saved if step is not None else load_file(folder / HEAD) if prepared.head else {}
        for name, parameter in prepared.head.items():
            if head[name].shape != parameter.shape:
                raise UsageError(
                    f"the run's head has {name} of shape {list(head[name].shape)}, and its task {run.task!r} now asks for "
                    f"{list(parameter.shape)}: its data changed since the run; put back what it was"
                )
        if step is not None:
            put_back(prepared, saved)
        else:
            prepared.adaptation.load(saved)
            with torch.no_grad():
                for name, parameter in prepared.head.items():
                    parameter.copy_(head[name])
    except (NotSupported, ValueError, KeyError) as error:
        raise UsageError(
            f"the weights of {run.method!r} do not fit the method as it is now: {error}"
        ) from error
    if build.method_identity(run.method) != run.identity["method"]:
        progress.notify(f"the source of {run.method!r} changed since the run; compare outputs before use")
    return prepared


def own_prefix(model: nn.Module) -> str:
    """What the encoder's names begin with in this program's own classifier; nothing in a stock model."""
    from ..models.pooled import MeanPooledClassifier

    return "backbone." if isinstance(model, MeanPooledClassifier) else ""
