"""The files in a run's folder that hold what it learned."""

from __future__ import annotations

import re
from pathlib import Path

ADAPTER, HEAD = "adapter.safetensors", "head.safetensors"
_STEP = re.compile(r"step-(\d+)\.safetensors")


def step_file(folder: Path, step: int) -> Path:
    """Where the weights after a step are."""
    return folder / f"step-{step:08d}.safetensors"


def saved_steps(folder: Path) -> list[int]:
    """The steps after which weights are there."""
    return sorted(int(found[1]) for file in folder.iterdir() if (found := _STEP.fullmatch(file.name)))
