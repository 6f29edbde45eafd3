"""What the parts found, as Markdown."""

from __future__ import annotations

import json
import statistics
from pathlib import Path
from typing import Any

from peftbench.measure.environment import describe
from peftbench.stats.slowdown import slowdown

from .checkpoints import device

Found = dict[str, Any]


def page(out: Path) -> str:
    """Every part that said something, in tables."""
    found = {file.stem: json.loads(file.read_text()) for file in sorted(out.glob("*.json"))}
    seen = describe(device().type)
    libraries = ", ".join(f"{name} {version}" for name, version in seen["libraries"].items() if version)
    blocks = [f"{seen['gpu'] or seen['processor']}; {libraries}."]
    writers = {"steps": steps, "phases": phases, "table": table, "memory": memory, "writing": writing}
    for name, its in found.items():
        write = writers.get(name.split("-")[0], command)
        blocks.append(f"## {name}\n\n{write(its)}")
    return "\n\n".join(blocks) + "\n"


def _rows(head: list[str], rows: list[list[str]]) -> str:
    return "\n".join("| " + " | ".join(row) + " |" for row in [head, ["---"] * len(head), *rows])


def _gb(size: int | None) -> str:
    return "-" if size is None else f"{size / 1e9:.2f}"


def steps(found: Found) -> str:
    """Medians, peaks and launches, and each step over LoRA's in a bare loop of PEFT, with its 95 % interval."""
    subjects: Found = found["subjects"]
    against = subjects.get("PEFT lora", {}).get("step_s")
    rows = []
    for name, its in subjects.items():
        ratio = "-"
        if against and its["step_s"] and name != "PEFT lora":
            over = slowdown([(against, its["step_s"])])
            low, high = over.interval()
            ratio = f"{1 + over.value:.3f} ({1 + low:.3f} to {1 + high:.3f})"
        step = f"{statistics.median(its['step_s']) * 1e3:.1f}" if its["step_s"] else "-"
        launches = its.get("launches") or {}
        count = (
            launches.get("kernels") or launches.get("operators") or "-"
        )  # the Trainer steps in a thread of its own
        rows.append(
            [
                name,
                f"{its['trained']:,}",
                step,
                ratio,
                _gb(its["peak_bytes"]),
                f"{count:,}" if isinstance(count, int) else count,
            ]
        )
    head = ["subject", "trained", "step, ms", "step over PEFT lora's (95 %)", "peak, GB", "launches"]
    told = [f"{name}: {why}" for name, why in found["refused"].items()]
    said = f"{found['size']}, {found['batch']} texts of {found['length']} tokens, half of them supervised{', packed here and of uneven lengths' * found['packing']}; weights {found['weights']}, compute {found['dtype']}."
    return "\n\n".join([said, _rows(head, rows), *told])


def phases(found: Found) -> str:
    """Seconds and peak of each phase of a run."""
    rows = [[its["phase"], f"{its['s']:.1f}", _gb(its.get("peak_bytes"))] for its in found["phases"]]
    outside = found["wall_s"] - found["steps_s"]
    said = f"One run of LoRA, {found['size']}, {found['steps']} steps, {found['scored_items']} texts scored, {found['new_tokens']} tokens written each: "
    said += f"{found['wall_s']:.1f} s, of them {outside:.1f} s outside the steps."
    return f"{said}\n\n{_rows(['phase', 's', 'peak, GB'], rows)}"


def table(found: Found) -> str:
    """A whole command, and the time of each kind of run."""
    by_kind: dict[str, list[float]] = {}
    for run in found["runs"]:
        by_kind.setdefault(run["kind"], []).append(run["wall_s"] or 0.0)  # a failed run has no time
    kinds = "; ".join(f"{len(walls)} {kind} runs {sum(walls):.0f} s" for kind, walls in by_kind.items())
    failed = [
        f"{run['method']} ({run['kind']}): {run['status']}: {run['reason']}"
        for run in found["runs"]
        if run["status"] != "ok"
    ]
    return "\n\n".join(
        [f"Exit status {found['exit']}, {found['wall_s']:.0f} s: {kinds}.", *failed, found["table"].strip()]
    )


def memory(found: Found) -> str:
    """Parts of the peak, their sum, and what the allocator saw."""
    kinds = ("weights", "gradients", "optimizer", "activations", "other")
    rows = []
    for method, its in found["methods"].items():
        if "refused" in its:
            rows.append([method, *["-"] * (len(kinds) + 2), its["refused"]])
            continue
        sizes = [its[f"{kind}_bytes"] for kind in kinds]
        peak = its["allocator_peak_bytes"]
        share = "-" if peak is None else f"{sum(sizes) / peak:.3f}"
        rows.append([method, *map(_gb, sizes), _gb(sum(sizes)), _gb(peak), share])
    return _rows(
        ["method", *(f"{kind}, GB" for kind in kinds), "sum, GB", "allocator, GB", "sum / allocator"], rows
    )


def writing(found: Found) -> str:
    """Seconds of scoring."""
    said = f"{found['size']}, {found['items']} texts, {found['new_tokens']} tokens each; {found['static']}."
    return f"{said}\n\n{_rows(['scored', 's'], [[name, f'{s:.2f}'] for name, s in found['seconds'].items()])}"


def command(found: Found) -> str:
    """What a command printed."""
    said = found["said"].strip() or found["messages"].strip()
    return f"`{' '.join(found['command'])}`: exit status {found['exit']}, {found['wall_s']:.0f} s.\n\n{said}"
