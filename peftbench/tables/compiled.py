"""What torch.compile does for a method's training step, from the record of its cost run."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ..records.record import Record


@dataclass(frozen=True)
class Compiled:
    """Of one method; the steps were timed in turns with eager ones on the same batches."""

    step_ms: float  # medians, as all of these
    ratio: float  # time of an eager step over that of the compiled one
    compile_s: float
    pays_after_steps: int | None  # None: it never does


def compiled_of(alone: Sequence[Record]) -> Compiled | str | None:
    """Of a method's cost runs, or why it can't be compiled; None where that was not asked for."""
    found: dict[str, Any] | None = next(
        (c for one in alone if (c := (one.profile or {}).get("compiled"))), None
    )
    if found is None or "refusal" in found:
        return None if found is None else str(found["refusal"])
    pairs = list(zip(found["eager_s"], found["compiled_s"], strict=True))
    saved_s = statistics.median(eager_s - compiled_s for eager_s, compiled_s in pairs)
    return Compiled(
        step_ms=statistics.median(found["compiled_s"]) * 1e3,
        ratio=statistics.median(eager_s / compiled_s for eager_s, compiled_s in pairs),
        compile_s=found["compile_s"],
        pays_after_steps=math.ceil(found["compile_s"] / saved_s) if saved_s > 0 else None,
    )


def said_of(compiled: Compiled | str) -> str:
    """A method's part of the footnote."""
    if isinstance(compiled, str):
        return f"not possible ({compiled})"
    pays = compiled.pays_after_steps
    gain = f"pays after {pays:,} steps" if pays is not None else "never pays"
    return f"{compiled.ratio:.2f} times as fast, compiled in {compiled.compile_s:.1f} s, {gain}"
