"""A trained run scored again with a part of its updates: the top directions of each dW, or one at random."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from peftbench.analysis.subspace import Floats
from peftbench.execution import batches, prepare, score
from peftbench.execution.restore import rebuilt
from peftbench.execution.train import accelerator_for
from peftbench.models.adaptation import plain, weight_of
from peftbench.models.roles import linear_sites
from peftbench.plugins import build
from peftbench.records.results import Result

Svd = tuple[Floats, Floats, Floats]  # U (out, k), singular values (k,), V (in, k)


@dataclass
class Updated:
    """A layer whose weight is W0 + dW."""

    layer: nn.Module  # in the model that is scored
    start: Floats  # W0, (out, in)
    update: Svd


@dataclass
class Trained:
    """A run's model, its layers with an update, and what it takes to score it."""

    model: nn.Module
    updated: dict[str, Updated]
    scorer: score.Scorer
    split: batches.Encoded

    @torch.no_grad()
    def keep(self, part: Callable[[Svd], Floats]) -> None:
        """Put W0 plus a part of dW, (out, in), into every layer."""
        for one in self.updated.values():
            weight_of(one.layer).copy_(torch.from_numpy(one.start + part(one.update)))

    def scores(self) -> Floats:
        """A score an item of the test split, as the weights are now."""
        return self.scorer.predict(self.split)["score"].to_numpy(np.float64)

    @property
    def groups(self) -> npt.NDArray[np.str_]:
        """The group of each test item, (items,)."""
        return np.asarray(self.split.groups(np.arange(len(self.split)))).astype(str)

    @torch.inference_mode()
    def logits(self, items: int = 32) -> torch.Tensor:
        """Of the first test items, (items, outputs)."""
        pad = batches.padding(self.scorer.tokenizer)
        batch = batches.collate(self.split, np.arange(min(items, len(self.split))), pad, torch.device("cpu"))
        self.model.eval()
        found: torch.Tensor = self.model(**batches.inputs_of(batch)).logits
        return found


def trained(result: Result) -> Trained:
    """Of a run whose weights were kept: of full fine-tuning, or of a method whose layers fold into plain ones."""
    assert result.folder is not None
    run = result.record.run
    prepared = rebuilt(run, result.folder)
    objective = prepare.objective_of(run)
    assert objective is not None
    model = prepared.adaptation.model
    updated = {}
    if prepared.adaptation.swaps:
        for name, (base, wrapper) in prepared.adaptation.swaps.items():
            folded: Any = wrapper.fold()  # type: ignore[operator]
            model.set_submodule(name, folded)
            updated[name] = _updated(folded, weight_of(base))
    else:
        start = prepare.load_base(run, objective, "cpu").model
        for name in linear_sites(model):
            layer = model.get_submodule(name)
            updated[name] = _updated(layer, weight_of(start.get_submodule(name)))
    task = build.build_task(run.task)
    encoded = prepare.encode(run, task, prepared.tokenizer)["test"]
    scorer = score.Scorer(
        model,
        objective,
        prepared.tokenizer,
        accelerator_for("cpu", "float32"),
        score.items_at_once(run.budget.max_length),
    )
    return Trained(model, updated, scorer, encoded)


def _updated(layer: nn.Module, start: torch.Tensor) -> Updated:
    before = start.detach().double().numpy()
    u, values, rows = np.linalg.svd(weight_of(layer).detach().double().numpy() - before, full_matrices=False)
    return Updated(layer, before, (u, values, rows.T))


def top(rank: int) -> Callable[[Svd], Floats]:
    """The strongest directions of dW."""
    return lambda svd: (svd[0][:, :rank] * svd[1][:rank]) @ svd[2][:, :rank].T


def at_random(draw: np.random.Generator) -> Callable[[Svd], Floats]:
    """dW on one direction drawn uniformly from those that it has."""

    def part(svd: Svd) -> Floats:
        u, values, v = svd
        k = int((values > values[0] * 1e-5).sum())
        mix = draw.standard_normal(k)
        mix /= np.linalg.norm(mix)
        direction = v[:, :k] @ mix
        return np.outer((u[:, :k] * values[:k]) @ mix, direction)

    return part


def as_lora(one: Trained, fresh: nn.Module, into: Callable[[nn.Module, int], Any]) -> nn.Module:
    """`fresh` with every update loaded as a LoRA of full rank, and the rest of what was trained copied.

    Args:
        into: lets a LoRA of that rank into a model; returns its adaptation.
    """
    rank = max(len(u.update[1]) for u in one.updated.values())
    own = dict(one.model.named_parameters())
    matrices = {f"{name}.weight" for name in one.updated}
    with torch.no_grad():
        for name, parameter in fresh.named_parameters():
            if name not in matrices:
                parameter.copy_(own[name])
        adaptation = into(fresh, rank)
        for name, (_, wrapper) in adaptation.swaps.items():
            u, values, v = one.updated[name].update
            k = len(values)
            wrapper.a.zero_()
            wrapper.b.zero_()
            wrapper.a[:k].copy_(torch.from_numpy((v * np.sqrt(values)).T))
            wrapper.b[:, :k].copy_(torch.from_numpy(u * np.sqrt(values) / wrapper.scale))
    return fresh


def drift(
    weight: torch.Tensor,
    one: tuple[torch.Tensor, torch.Tensor],
    other: tuple[torch.Tensor, torch.Tensor],
    cycles: int,
) -> float:
    """|W after - W before| / |B A|, after so many times W - B A + B' A' and back, in the type of W.

    Args:
        weight: (out, in).
        one, other: B (out, rank) and A (rank, in); `one` is in the weight.
    """
    base = torch.nn.Linear(weight.shape[1], weight.shape[0], bias=False, dtype=weight.dtype)
    layer = plain(base, weight, None)
    held = weight_of(layer)
    before = held.clone()
    pairs = [(b.to(weight.dtype), a.to(weight.dtype)) for b, a in (one, other)]
    for _ in range(cycles):
        for out, into in (pairs, pairs[::-1]):
            held.addmm_(*out, alpha=-1.0)
            held.addmm_(*into)
    return _off(held, before, one)


def rewritten(
    start: torch.Tensor,
    one: tuple[torch.Tensor, torch.Tensor],
    other: tuple[torch.Tensor, torch.Tensor],
    cycles: int,
) -> float:
    """The same where W0, `start`, is kept, and every switch writes W = W0 + B A anew."""
    held = start.clone()
    pairs = [(b.to(start.dtype), a.to(start.dtype)) for b, a in (one, other)]
    before = torch.addmm(start, *pairs[0])
    for _ in range(cycles):
        for b, a in pairs[::-1]:
            held.copy_(start).addmm_(b, a)
    return _off(held, before, one)


def _off(held: torch.Tensor, before: torch.Tensor, one: tuple[torch.Tensor, torch.Tensor]) -> float:
    size = float(torch.linalg.matrix_norm(one[0].double() @ one[1].double()))
    return float(torch.linalg.matrix_norm(held.double() - before.double())) / size
