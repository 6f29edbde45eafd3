"""What this project does on a GPU, measured on one in minutes.

    python -m benchmarks.gpu --out DIR [--seconds 480] [--work DIR] [--dry-run]

Needs torch, transformers, peft and accelerate, what `peftbench` needs, and no network: models have random weights of Llama's shapes.
`peftbench` itself has to be installed, from the checkout and without a network: `pip install --no-deps --no-build-isolation -e .`.
Each part is a process of its own under a time limit, in order of worth. What it finds is in DIR/<part>.json as soon as it is known; the next
call goes on with the first part that did not end. The last lines, and DIR/gpu.md, say what was found as tables. `--dry-run` does the
same on a tiny model, on a CPU too, in about a minute.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from . import commands, inside, outside, pages, steps

ROOT = Path(__file__).resolve().parents[2]
LEAST_S = 20  # a part is not begun with less left
ROUNDS, STEPS, TEXTS = 20, 20, 200


@dataclass(frozen=True)
class Part:
    """One thing to find out."""

    name: str
    limit_s: int
    do: Callable[
        [Path, Callable[[dict[str, Any]], None]], None
    ]  # with a folder to work in, and what takes what is found


PARTS = (
    Part("tests", 150, partial(commands.cuda_tests, "tests")),
    Part("steps-1b-4x512", 120, partial(steps.measure, "1b", False, (4, 512), ROUNDS)),
    Part("steps-8b-4x512", 200, partial(steps.measure, "8b", False, (4, 512), ROUNDS)),
    Part("phases-8b", 150, partial(outside.phases, "8b", (4, 512), STEPS)),
    Part(
        "table-8b",
        300,
        partial(outside.table, "8b", "--methods lora,adapter,prefix,dora,bitfit", (4, 512), STEPS),
    ),
    Part("steps-1b-packed", 120, partial(steps.measure, "1b", True, (16, 512), ROUNDS)),
    Part("memory-1b", 120, partial(inside.memory, "1b", ("lora", "adapter", "prefix", "dora"), (4, 512))),
    Part("table1", 200, partial(commands.paper, "table1", "full", None)),
    Part("figure5", 300, partial(commands.paper, "figure5", "full", None)),
    Part("claims", 300, partial(commands.paper, "claims", "small", None)),
    Part("writing-1b", 120, partial(inside.writing, "1b", (4, 512), TEXTS)),
)
TINY = (2, 32)
DRY = (
    Part("tests", 300, partial(commands.cuda_tests, "tests/measure/test_breakdown.py")),
    Part("steps-tiny-2x32", 300, partial(steps.measure, "tiny", False, TINY, 3)),
    Part("steps-tiny-packed", 300, partial(steps.measure, "tiny", True, (4, 32), 3)),
    Part("phases-tiny", 300, partial(outside.phases, "tiny", TINY, 3)),
    Part("table-tiny", 300, partial(outside.table, "tiny", "--methods lora --latency-budget 3", TINY, 2)),
    Part("memory-tiny", 300, partial(inside.memory, "tiny", ("lora",), TINY)),
    Part("writing-tiny", 300, partial(inside.writing, "tiny", TINY, 8)),
)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", required=True, type=Path)
    parser.add_argument("--seconds", type=float, default=480)
    parser.add_argument("--work", type=Path, default=Path("gpu-work"), help="checkpoints and stores: 20 GB")
    parser.add_argument("--dry-run", action="store_true", help="a tiny model")
    asked = parser.parse_args()
    out, work = asked.out.resolve(), asked.work.resolve()
    out.mkdir(parents=True, exist_ok=True)
    work.mkdir(parents=True, exist_ok=True)
    parts = DRY if asked.dry_run else PARTS
    ends = time.monotonic() + asked.seconds
    failed = [part.name for part in parts if not _ended(part, out) and not _do(part, out, work, ends)]
    page = pages.page(out)
    (out / "gpu.md").write_text(page)
    print(page)
    if asked.dry_run and failed:
        sys.exit(f"failed: {', '.join(failed)}")


def _write(file: Path, found: dict[str, Any]) -> None:
    file.with_suffix(".part").write_text(json.dumps(found, indent=1))
    file.with_suffix(".part").rename(file)


def _ended(part: Part, out: Path) -> bool:
    return (out / f"{part.name}.done").exists()


def _do(part: Part, out: Path, work: Path, ends: float) -> bool:
    """Do a part in a process of its own; whether it ended well."""
    left = ends - time.monotonic()
    if left < LEAST_S:
        print(f"{part.name}: no time left", flush=True)
        return False
    started, log = time.monotonic(), out / f"{part.name}.log"
    child = os.fork()  # with the libraries already imported; nothing here has touched a GPU
    if child == 0:
        _as_child(part, out, work, log)
    status = None
    try:
        while status is None and time.monotonic() < started + min(left, part.limit_s):
            ended, code = os.waitpid(child, os.WNOHANG)
            status = code if ended else None
            time.sleep(0.05)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child, signal.SIGKILL)  # with all that it started
        if status is None:
            os.waitpid(child, 0)
    said = "out of time" if status is None else "done" if status == 0 else f"failed, see {log.name}"
    print(f"{part.name}: {said}, {time.monotonic() - started:.0f} s", flush=True)
    if status != 0:
        return False
    log.unlink()
    (out / f"{part.name}.done").touch()
    return True


def _as_child(part: Part, out: Path, work: Path, log: Path) -> None:
    """Do a part and end this process, which is the first of a session of its own."""
    os.setsid()
    with log.open("w") as sink:
        os.dup2(sink.fileno(), 1)
        os.dup2(sink.fileno(), 2)
    # The program's own processes look for it there, where it is not installed.
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    os.chdir(ROOT)
    status = 0
    try:
        part.do(work, lambda found: _write(out / f"{part.name}.json", found))
    except BaseException:  # noqa: BLE001  whatever it is, the next part comes
        traceback.print_exc()
        status = 1
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


if __name__ == "__main__":
    main()
