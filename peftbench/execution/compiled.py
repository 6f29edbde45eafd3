"""The trainer's steps eager and under torch.compile, in turns, on the same batches of one process.

The whole model's forward is compiled, and with it its backward; clipping and the optimizer are as ever. Batches of other widths are
compiled anew or for any width, as torch decides: all of it is in the first pass over the batches, whose excess is the compile time.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import torch

from ..measure.clock import synchronized_clock
from .train import Stepper


def time_compiled(
    stepper: Stepper, steps: Sequence[Callable[[], object]], device: torch.device
) -> dict[str, Any]:
    """What compiling takes and gives, in seconds; or why it can't be done.

    Args:
        steps: each one step of `stepper` on a batch of its own; they are done three times.
    """
    eager = stepper.adaptation
    clock = synchronized_clock(device)

    def timed(adaptation: Any, step: Callable[[], object]) -> float:
        stepper.adaptation = adaptation
        started = clock()
        step()
        return clock() - started

    try:
        with torch.compiler.config.patch(
            force_disable_caches=True
        ):  # an earlier process may have filled them
            compiled = dataclasses.replace(eager, model=torch.compile(eager.model))
            first_s = sum(timed(compiled, step) for step in steps)
            pairs = []
            for number, step in enumerate(steps):
                if number % 2:
                    pairs.append((timed(eager, step), timed(compiled, step)))
                else:
                    pairs.append((timed(compiled, step), timed(eager, step))[::-1])
    except Exception as error:  # noqa: BLE001  whatever the compiler makes of a method
        return {"refusal": " ".join(f"{type(error).__name__}: {error}".split())[:200]}
    finally:
        stepper.adaptation = eager
        torch.compiler.reset()
    eager_s, compiled_s = (list(times) for times in zip(*pairs, strict=True))
    return {"eager_s": eager_s, "compiled_s": compiled_s, "compile_s": max(0.0, first_s - sum(compiled_s))}
