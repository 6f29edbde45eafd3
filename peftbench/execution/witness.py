"""What training really did, counted beside it: optimizer steps, passes, items, rates, and on what terms the base trained.

Read from hooks and from the optimizers themselves, so that whatever a method does in a forward pass, a penalty or after a step is
seen. Nothing of it runs inside a step but two counters a pass.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim.optimizer import register_optimizer_step_post_hook

from ..models.adaptation import Adaptation
from ..models.parted import inferring, whole
from ..plugins.fence import FOREIGN, Fence
from ..records.runs import Run
from . import hidden, ranks
from .before import Before
from .optimizers import second_moment
from .parts import cut_for_ranks
from .prepare import Prepared
from .probe import Probe
from .train import schedule

RATE_TOLERANCE = 1e-4  # relative: rates are products of floats


@dataclass
class Counted:
    """Over all of training."""

    optimizer_steps: int = 0  # of the trainer's own
    other_optimizer_steps: int = 0
    forward_passes: float = 0.0  # of the whole model, by how often tokens were embedded
    backward_passes: int = 0  # through its outputs
    rows: float = 0.0  # items that went into it, by how many were embedded
    expected_passes: int = 0  # of the shared budget
    expected_rows: int = 0
    rate_factors: list[float] = field(default_factory=list)  # on the run's learning rate, as used

    def departures(self, declared: set[float]) -> list[str]:
        """What is more, or other, than every method gets, in words; the method's own factors on its rate are said elsewhere."""
        steps = max(1, self.optimizer_steps)
        found = []
        if (passes := round(self.forward_passes)) > self.expected_passes:
            found.append(
                f"{passes / steps:.3g} forward passes a step instead of {self.expected_passes / steps:.3g}"
            )
        if self.backward_passes > self.expected_passes:
            found.append(
                f"{self.backward_passes / steps:.3g} backward passes a step instead of {self.expected_passes / steps:.3g}"
            )
        if round(self.rows) > self.expected_rows and passes <= self.expected_passes:
            found.append(f"{self.rows / steps:.3g} items a step instead of {self.expected_rows / steps:.3g}")
        if self.other_optimizer_steps:
            found.append(f"{self.other_optimizer_steps} steps of an optimizer of its own")
        strange = [
            factor
            for factor in self.rate_factors
            if not any(abs(factor - d) <= RATE_TOLERANCE * max(d, 1.0) for d in declared)
        ]
        if strange:
            found.append(f"its learning rate times {', '.join(f'{factor:g}' for factor in strange[:3])}")
        return found


class Witness:
    """Stands beside a training."""

    def __init__(
        self,
        run: Run,
        prepared: Prepared,
        before: Before,
        probe: Probe,
    ) -> None:
        adaptation, head = prepared.adaptation, prepared.head
        self.run, self.adaptation, self.terms = run, adaptation, before.terms
        self.of_base = {n for n, p in adaptation.params.items() if id(p) in before.parameters}
        self.declared_factors = {adaptation.groups.get(name, 1.0) for name in adaptation.params}
        self.counted = Counted()
        self.changed: list[str] = []  # settings and generators that training touched
        self.others: list[Tensor] = []  # what optimizers of its own step on
        self.optimizer: torch.optim.Optimizer | None = None
        self.parameters = [*adaptation.params.values(), *head.values()]
        self.of_head = {id(p) for p in head.values()}
        self.embeddings = _embeddings(adaptation)
        self.per_pass = self._embedded_once(probe)
        self.embedded, self.rows, self.calls, self.paused = 0, 0, 0, False
        self.calls_before = 0  # of a training that carries on
        self.inside = {id(module) for module in adaptation.model.modules()}
        self.head_groups: set[int] = set()  # places of the optimizer's groups that are the head's alone
        self.factors: set[float] = set()

    @contextmanager
    def watching(self, steps: int, items: int) -> Iterator[None]:
        """Count while the block trains.

        Args:
            steps: optimizer steps of the budget.
            items: of the training split.
        """
        budget = self.run.budget
        self.steps = steps
        cut = cut_for_ranks(np.arange(min(budget.batch_size, items)), budget.accumulate)
        own = ranks.mine(cut, cut[0])
        self.counted.expected_passes = steps * len(own)
        self.counted.expected_rows = steps * sum(map(len, own))
        self.seed: int | None = None
        self.fence = Fence(FOREIGN)
        with ExitStack() as hooks:
            add = hooks.callback
            add(register_optimizer_step_post_hook(self._stepped).remove)
            model = self.adaptation.model
            add(model.register_forward_pre_hook(self._began, prepend=True).remove)
            add(model.register_forward_hook(self._ended).remove)
            for embedding in self.embeddings:
                add(embedding.register_forward_pre_hook(self._embed).remove)
            yield
        self._settings()
        self.counted.forward_passes = (
            self.embedded / self.per_pass if self.per_pass else float(self.calls_before + self.calls)
        )
        self.counted.rows = self.rows / max(1, self.per_pass)
        self.counted.rate_factors = sorted(self.factors)

    def beside(self, watch: Callable[[int, float], None]) -> Callable[[int, float], None]:
        """What the trainer calls between two steps: a look, and then `watch`, which may score and is not counted."""

        def after_step(done: int, train_s: float) -> None:
            self._look()
            self.paused = True
            watch(done, train_s)
            self.paused = False

        return after_step

    def counts(self) -> dict[str, Any]:
        """What was counted so far, for a checkpoint."""
        calls = self.calls_before + self.calls
        return {
            "counted": vars(self.counted),
            "factors": sorted(self.factors),
            "embedded": self.embedded,
            "rows": self.rows,
            "calls": calls,
            "changed": self.changed,
            "broken": list(self.terms.broken),
        }

    def put_back(self, counts: dict[str, Any]) -> None:
        """The same of the steps that another process did."""
        for name, value in counts["counted"].items():
            setattr(self.counted, name, value)
        self.factors = set(counts["factors"])
        self.embedded, self.rows = counts["embedded"], counts["rows"]
        self.calls_before = counts["calls"]
        self.changed[:] = dict.fromkeys([*counts["changed"], *self.changed])
        self.terms.broken.update(dict.fromkeys(counts["broken"]))

    def departures(self) -> list[str]:
        """What a table says of how this training departs from the shared budget, the method's declared rates included."""
        found = self.counted.departures(self.declared_factors)
        if declared := sorted(self.declared_factors - {1.0}):
            found.append(
                f"the learning rate times {', '.join(f'{factor:g}' for factor in declared)} on some of its tensors"
            )
        return found

    def untrained(self) -> list[str]:
        """Declared tensors that training could not have moved, and why."""
        if self.optimizer is None:
            return []
        rates = {
            id(p): group.get("initial_lr", group["lr"]) for group in self.optimizer.param_groups for p in group["params"]
        }  # fmt: skip
        found = []
        for name, parameter in self.adaptation.params.items():
            moment = second_moment(self.optimizer.state.get(parameter, {}))
            if moment is None:
                found.append(f"{name} never had a gradient")
            elif not bool(whole(moment).any()):
                found.append(f"{name} had a gradient of zero alone")
            elif not rates.get(id(parameter), 0.0):
                found.append(f"{name} has a learning rate of zero")
        return found

    def _look(self) -> None:
        self.terms.look(self.inside)
        self._settings()

    def _settings(self) -> None:
        for name in self.fence.restore():
            self.changed.append(f"{name} in training")
        if self.seed is not None and torch.initial_seed() != self.seed:
            self.changed.append("torch's generator, seeded anew in training")
            self.seed = torch.initial_seed()

    def _began(self, *_: Any) -> None:
        if self.paused:
            return
        if not self.calls:
            self.seed = torch.initial_seed()
            self.terms.look(self.inside)
        self.calls += 1

    def _ended(self, _: nn.Module, __: tuple[Any, ...], out: Any) -> None:
        logits = getattr(out, "logits", None)
        if isinstance(logits, Tensor) and logits.requires_grad:
            logits.register_hook(self._backward)

    def _backward(self, _: Tensor) -> None:
        self.counted.backward_passes += 1

    def _embed(self, _: nn.Module, args: tuple[Any, ...]) -> None:
        if not self.paused:
            self.embedded += 1
            self.rows += len(args[0]) if args and isinstance(args[0], Tensor) and args[0].ndim > 1 else 0

    def _stepped(self, optimizer: torch.optim.Optimizer, *_: Any) -> None:
        if optimizer is not self.optimizer:  # looked into once: this is inside the step that is timed
            held = [p for group in optimizer.param_groups for p in group["params"]]
            if self.optimizer is not None or {id(p) for p in held} != {id(p) for p in self.parameters}:
                self.counted.other_optimizer_steps += 1
                self.others = held
                return
            self.optimizer = optimizer
            self.head_groups = {
                place
                for place, group in enumerate(optimizer.param_groups)
                if all(id(p) in self.of_head for p in group["params"])
            }
        now = self.run.learning_rate * schedule(
            self.counted.optimizer_steps, self.steps, self.run.budget.warmup_share
        )
        self.counted.optimizer_steps += 1
        for place, group in enumerate(optimizer.param_groups):
            if now and place not in self.head_groups:
                self.factors.add(float(f"{group['lr'] / now:.6g}"))

    @inferring
    def _embedded_once(self, probe: Probe) -> int:
        """How often the base embeds tokens in one pass: an encoder-decoder does so twice."""
        counts = [0]

        def count(*_: Any) -> None:
            counts[0] += 1

        with ExitStack() as hooks, self.adaptation.without() as model, probe.computing():
            for embedding in self.embeddings:
                hooks.callback(embedding.register_forward_pre_hook(count).remove)
            model(**probe.batch([0]))
        return counts[0]


def _embeddings(adaptation: Adaptation) -> list[nn.Embedding]:
    """The word embeddings of the model, and of whatever copies of it the method keeps."""
    size = getattr(adaptation.model.config, "vocab_size", None)
    found = {
        id(module): module
        for _, module in hidden.reached([("", adaptation)])
        if isinstance(module, nn.Embedding) and module.num_embeddings == size
    }
    return list(found.values())
