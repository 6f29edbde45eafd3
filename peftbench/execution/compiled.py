"""The trainer's steps eager and under torch.compile, in turns, on the same batches of one process.

The model's forward is compiled, and with it its backward; a language model's output layer and loss, clipping and the optimizer are as
ever. Batches of other widths are compiled anew or for any width, as torch decides: all of it is in the first pass over the batches, whose excess is the compile time.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import torch

from ..measure.clock import synchronized_clock
from ..models.adaptation import Adaptation
from .train import Stepper


def time_compiled(
    stepper: Stepper, steps: Sequence[Callable[[], object]], device: torch.device
) -> dict[str, Any]:
    """What compiling takes and gives, in seconds; or why it can't be done.

    Args:
        steps: each one step of `stepper` on a batch of its own; they are done three times, the first of them once more.
    """
    eager = stepper.adaptation
    clock = synchronized_clock(device)

    def timed(adaptation: Adaptation, step: Callable[[], object]) -> float:
        stepper.adaptation = adaptation
        started = clock()
        step()
        return clock() - started

    eager_s: list[float] = []
    compiled_s: list[float] = []
    steps[0]()  # the optimizer's state comes with the first
    config: Any = torch.compiler.config
    try:
        with config.patch(force_disable_caches=True):  # an earlier process may have filled them
            model: Any = torch.compile(eager.model)
            compiled = dataclasses.replace(eager, model=model)
            first_s = sum(timed(compiled, step) for step in steps)
            turns = [(eager, eager_s), (compiled, compiled_s)]
            for step in steps:
                for adaptation, taken_s in turns:
                    taken_s.append(timed(adaptation, step))
                turns.reverse()
    except Exception as error:  # noqa: BLE001  whatever the compiler makes of a method
        return {"refusal": " ".join(f"{type(error).__name__}: {error}".split())[:200]}
    finally:
        stepper.adaptation = eager
        torch.compiler.reset()
    return {"eager_s": eager_s, "compiled_s": compiled_s, "compile_s": max(0.0, first_s - sum(compiled_s))}
