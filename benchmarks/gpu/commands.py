"""Parts that are commands: the CUDA-marked tests, and pages of the paper."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

Write = Callable[[dict[str, Any]], None]
ROOT = Path(__file__).resolve().parents[2]


def cuda_tests(folder: str, work: Path, write: Write) -> None:
    """The tests in a folder that need a GPU, a few at once: most of a test is its process's own work."""
    workers = str(max(1, min(6, (os.cpu_count() or 1) // 2)))
    _run(
        ["-m", "pytest", "-q", "-m", "cuda", "-n", workers, "-p", "no:cacheprovider", str(ROOT / folder)],
        write,
    )


def paper(name: str, scale: str, model: str | None, work: Path, write: Write) -> None:
    """An experiment of the LoRA paper."""
    other = [] if model is None else ["--model", model]
    _run(
        [
            "-m",
            "peftbench",
            "paper",
            name,
            "--scale",
            scale,
            "--store",
            str(work / "paper"),
            "--quiet",
            *other,
        ],
        write,
    )


def _run(arguments: list[str], write: Write) -> None:
    started = time.perf_counter()
    ended = subprocess.run([sys.executable, *arguments], check=False, capture_output=True, text=True)
    write(
        {
            "command": arguments[1:],
            "exit": ended.returncode,
            "wall_s": time.perf_counter() - started,
            "said": ended.stdout[-20_000:],
            "messages": ended.stderr[-3_000:],
        }
    )
