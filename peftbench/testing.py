"""For the tests of a method or a task of your own: on tiny models, offline, in seconds.

from peftbench.testing import assert_claims, trained_numbers
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .models.adaptation import Adaptation


def assert_claims(what: str | Path, folder: Path, plugins: Sequence[str | Path] = ()) -> None:
    """Hold a method to what it claims, or a task to what it promises, as `peftbench check` does.

    A method that can't serve one of the tiny models is refused there, which is no failure.

    Args:
        what: a SPEC, or a file with methods and tasks.
        folder: for the files of the runs, as pytest's `tmp_path`.
        plugins: files and folders to load first.

    Raises:
        AssertionError: a check failed; the message says what was seen and what to do.
        UsageError: there is no such method, task or file.
    """
    from .inspection.check_method import check_file
    from .render.checks import checks_text

    checked = [dataclasses.asdict(one) for one in check_file(str(what), [str(p) for p in plugins], folder)]
    if any(one["outcome"] == "fail" for one in checked):
        raise AssertionError(checks_text(checked))


def adapt(method: str, model: str = "tiny-encoder", plugins: Sequence[str | Path] = ()) -> Adaptation:
    """A tiny model with a method in it.

    Args:
        method: SPEC.
        model: `tiny-encoder` (BERT), `tiny-decoder` (Llama) or `tiny-fused` (GPT-2): 2 blocks of width 32, feed-forward 64.
            A folder or a hub id will do as well.
        plugins: the file that the method is in.

    Raises:
        NotSupported: the method can't serve this model.
    """
    from .models.load import load_model
    from .models.resolve import resolve_model
    from .models.streams import init_streams
    from .plugins import build, loader

    loader.load_plugins(Path(p) for p in plugins)
    loaded = load_model(resolve_model(model), None, seed=0)
    with init_streams(0, method):
        return build.build_method(method)[0].inject(loaded.model)


def trained_numbers(method: str, model: str = "tiny-encoder", plugins: Sequence[str | Path] = ()) -> int:
    """How many numbers a method trains in a model beside the head; arguments as those of `adapt`."""
    return sum(parameter.numel() for parameter in adapt(method, model, plugins).params.values())
