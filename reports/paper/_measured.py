"""The claims of cost as they are measured: memory of training steps, and passes of a merged model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from peftbench.engine.sweep import ONE_BY_ONE, sweep
from peftbench.experiments.page import Asked, PageTable, Statement, exactly, inside
from peftbench.planning.latency import Step, plan_profile
from peftbench.records.store import Store
from peftbench.render.columns import Cell
from peftbench.stats.slowdown import EQUIVALENCE

from ._timed import Place, Timed, merged, percent, time_passes

TASK = "synthetic:train_items=64:words=255"  # texts as long as they are cut
# Of full fine-tuning's peak: activations beside which the claim is about weights, gradients and the optimizer. In float32 16 bytes a number
# against 4 and a tenth of 16 would be 2.9 times: at a tenth arithmetic alone contradicts. At a twentieth it leaves 3.3.
FEW = 0.05
CLAIMED = 3.0  # times less memory


@dataclass(frozen=True)
class Setting:
    """One scale's."""

    model: str
    steps: tuple[Place, ...]  # batch, length of a training step
    passes: tuple[Place, ...]
    processes: int
    rounds: int


SETTINGS = {
    "cpu": Setting("random-gpt2-medium", ((1, 8), (1, 32), (4, 32), (8, 48)), ((1, 32),), 3, 12),
    "small": Setting("random-gpt2-medium", ((1, 32), (1, 256), (4, 256), (8, 512)), ((1, 128), (16, 256)), 3, 20),
    "full": Setting("random-gpt2-medium", ((1, 32), (1, 256), (4, 256), (8, 512)), ((1, 128), (16, 256), (32, 512)), 5, 40),
}  # fmt: skip


@dataclass(frozen=True)
class Peak:
    """What is alive at the highest moment of a training step."""

    total_bytes: int
    activations_bytes: int
    allocated_bytes: int | None  # CUDA: the allocator's own peak


@dataclass(frozen=True)
class StepPeaks:
    """Both methods' peaks of a step of that shape."""

    place: Place
    full: Peak
    lora: Peak

    @property
    def ratio(self) -> float:
        """The allocator's peaks where there are any, else the bytes of all storages alive."""
        return (self.full.allocated_bytes or self.full.total_bytes) / (
            self.lora.allocated_bytes or self.lora.total_bytes
        )

    @property
    def activations_share(self) -> float:
        """LoRA's, which peaks with them, or full's if they are more, of full's peak, which often is in the optimizer without any."""
        return max(self.full.activations_bytes, self.lora.activations_bytes) / self.full.total_bytes

    @property
    def tokens(self) -> int:
        return self.place[0] * self.place[1]


def memory(asked: Asked, full: str, lora: str) -> tuple[list[StepPeaks], str]:
    """The peaks of training steps of growing size, and why there are none if there are none."""
    setting = SETTINGS[asked.scale]
    model, dtype = asked.model or setting.model, asked.dtype or "float32"
    capacity = asked.engine.capacity()
    planned = {
        (place, method): plan_profile(method, Step(model, TASK, *place, dtype=dtype), capacity)
        for place in setting.steps
        for method in (full, lora)
    }
    if refusal := next((item.refusal for item in planned.values() if item.refusal), None):
        return [], refusal
    peaks: dict[tuple[Place, str], Peak] = {}
    done = sweep(planned.values(), Store(asked.store), asked.engine, ONE_BY_ONE, lambda event: None)
    for key, (item, stored) in zip(planned, done, strict=True):
        place, method = key
        asked.say(f"a training step of {method} at {place[0]}x{place[1]}: {stored.record.status}")
        if stored.record.status != "ok":
            return [], f"{item.run.method} at {place[0]}x{place[1]}: {stored.record.reason}"
        kinds = (stored.record.profile or {})["memory_by_kind"]
        total = sum(
            size for name, size in kinds.items() if name.endswith("_bytes") and name != "allocator_peak_bytes"
        )
        peaks[key] = Peak(total, kinds["activations_bytes"], kinds["allocator_peak_bytes"])
    return [StepPeaks(place, peaks[place, full], peaks[place, lora]) for place in setting.steps], ""


def memory_table(steps: Sequence[StepPeaks], model: str) -> PageTable:
    """A row a size of step."""
    rows = tuple(
        (
            Cell(f"{step.place[0]}x{step.place[1]}"),
            Cell(f"{step.tokens:,}"),
            *(
                Cell(f"{peak.total_bytes / 1e6:,.0f}" + (f" ({peak.allocated_bytes / 1e6:,.0f})" if peak.allocated_bytes else ""))
                for peak in (step.full, step.lora)
            ),
            Cell(f"{step.activations_share:.1%}"),
            Cell(f"{step.ratio:.2f}"),
        )
        for step in steps
    )  # fmt: skip
    return PageTable(
        f"Measured: peak of a training step of {model}, MB, weights included (on a GPU in brackets the allocator's)",
        (
            "batch x length",
            "tokens a step",
            "full",
            "LoRA",
            "activations (the larger of both) of full's peak",
            "ratio",
        ),
        rows,
    )


def memory_statement(steps: Sequence[StepPeaks], why_not: str) -> Statement:
    """Tested where activations are few, as the paper's claim is about weights, gradients and the optimizer."""
    says = "Training takes a third of the memory, measured (abstract; sections 4.2 and 5.5)"
    test = f"full's peak is {CLAIMED:g} times LoRA's or more in every step in which neither has more activations than {FEW:.0%} of full's peak"
    few = [step for step in steps if step.activations_share <= FEW]
    if not few:
        why = (
            why_not
            or f"activations are {min(step.activations_share for step in steps):.0%} or more of every step measured here"
        )
        return Statement(says, test, why, None, None)
    below = next((step for step in steps if step.ratio < CLAIMED), None)
    falls = (
        f"it falls below {CLAIMED:g} at {below.tokens:,} tokens a step ({below.ratio:.2f})"
        if below
        else f"it stays above {CLAIMED:g} up to {steps[-1].tokens:,} tokens a step"
    )
    lowest = min(step.ratio for step in few)
    return Statement(says, test, f"{lowest:.2f} times; {falls}", *exactly(lowest >= CLAIMED))


def passes(asked: Asked, lora: str) -> Timed:
    """Passes of the base, of a copy of it, and of LoRA unmerged and merged."""
    setting = SETTINGS[asked.scale]
    return time_passes(asked, setting.model, (lora,), setting.passes, setting.processes, setting.rounds)


def passes_table(timed: Timed, lora: str, spelled: str) -> PageTable:
    """A row a variant, a column a cell."""
    variants = ("copy of the base", merged(lora), spelled)
    rows = [(Cell("base"), *(Cell(timed.milliseconds("base", place) + " ms") for place in timed.cells))]
    for variant in variants:
        rows.append(
            (Cell(variant), *(Cell(percent(timed.slowdown(variant, place))) for place in timed.cells))
        )
    return PageTable(
        "Measured: slow-down of one forward pass over the base; the copy of the base is the noise floor",
        ("variant", *(f"{b}x{n}" for b, n in timed.cells)),
        tuple(rows),
    )


def passes_statements(timed: Timed, lora: str) -> list[Statement]:
    """One a cell."""
    says = "Merged, LoRA adds no latency (section 4.1)"
    device = timed.records[0].run.device
    margin = EQUIVALENCE[device]
    made = []
    for place in timed.cells:
        slow = timed.slowdown(merged(lora), place)
        made.append(
            Statement(
                f"{says}, {place[0]}x{place[1]}",
                f"its slow-down's 90 % interval lies inside ±{margin:.0%}",
                ("on this CPU: " if device == "cpu" else "") + percent(slow),
                *inside(slow.estimate, margin),
            )
        )
    return made
