"""Kill the whole program with SIGKILL at random moments, again and again, on one store at a time.

    python benchmarks/kill_at_random.py [--kills 200] [--seed 0]

After each kill: no process is left, every record that was there is there bit for bit, and nothing was run twice. When a
comparison gets through, its table must equal the one of an undisturbed run in every column that does not measure time or
memory; then the next one begins on an empty store. Exit status 1 when any of it does not hold. A kill takes a few seconds.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil

COMMAND = [
    *(sys.executable, "-m", "peftbench", "run", "--methods", "lora,lora:rank=2,lora:rank=4,adapter,prefix"),
    *(
        "--model",
        "tiny-encoder",
        "--task",
        "synthetic:train_items=64:test_items=40",
        "--steps",
        "3",
        "--seeds",
        "4",
    ),
    *("--latency-grid", "1x8", "--format", "json", "--quiet"),
]
MEASURED = ("_ms", "_bytes", "_s", "_share", "slowdown", "_low", "_high", "bytes_kind")


def records(store: Path) -> dict[str, str]:
    """The hash of every record, by its place."""
    return {
        str(file.relative_to(store)): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in sorted(store.glob("*/*/record.json"))
    }


def stable(text: str) -> Any:
    """The rows of a table without what a clock or a memory meter says."""
    return [
        {name: value for name, value in row.items() if not any(part in name for part in MEASURED)}
        for table in json.loads(text)
        for row in table["rows"]
    ]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--window-s", type=float, default=8.0, help="a program that was started is killed within it"
    )
    asked = parser.parse_args()
    draw = random.Random(asked.seed)
    home = Path(tempfile.mkdtemp(prefix="kills-"))
    begun = time.monotonic()
    whole = subprocess.run(
        [*COMMAND, "--store", "whole"], cwd=home, capture_output=True, text=True, check=True
    )
    wanted, faults, kills, rounds, most = stable(whole.stdout), [], 0, 0, 0
    while kills < asked.kills:
        rounds += 1
        store = home / f"round-{rounds}"
        while True:
            before = records(store)
            program = subprocess.Popen(
                [*COMMAND, "--store", store.name],
                cwd=home,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
            if kills < asked.kills:
                try:
                    out, err = program.communicate(timeout=draw.uniform(0, asked.window_s))
                except subprocess.TimeoutExpired:
                    children = psutil.Process(program.pid).children(recursive=True)
                    os.kill(program.pid, signal.SIGKILL)
                    program.communicate()
                    kills += 1
                    _, alive = psutil.wait_procs(children, timeout=10)
                    faults += [f"kill {kills}: process {child.pid} is left" for child in alive]
                    after = records(store)
                    faults += [
                        f"kill {kills}: {name} is lost or changed"
                        for name in before
                        if after.get(name) != before[name]
                    ]
                    most = max(most, len(after))
                    print(
                        f"kill {kills}: {len(after)} of {len(records(home / 'whole'))} finished",
                        file=sys.stderr,
                        flush=True,
                    )
                    continue
            else:
                out, err = program.communicate()
            if program.returncode != 0:
                faults.append(f"round {rounds}: status {program.returncode}: {err[-300:]}")
            elif stable(out) != wanted:
                faults.append(f"round {rounds}: the table differs from the undisturbed one")
            twice = [path.name for path in store.iterdir() if len(list(path.iterdir())) > 1]
            faults += [f"round {rounds}: {name} was run twice" for name in twice]
            if {name.split("/")[0] for name in records(store)} != {
                n.split("/")[0] for n in records(home / "whole")
            }:
                faults.append(f"round {rounds}: other runs than the undisturbed one's")
            break
    shutil.rmtree(home)
    print(
        f"{kills} kills with SIGKILL at random moments over {rounds} comparisons of {len(wanted)} rows: "
        f"{len(faults)} faults; {time.monotonic() - begun:.0f} s"
    )
    print("\n".join(faults))
    sys.exit(1 if faults else 0)


if __name__ == "__main__":
    main()
