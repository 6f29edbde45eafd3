"""Methods in tiny models: injected, fed, trained a little."""

from __future__ import annotations

import copy
import dataclasses
import functools
from collections.abc import Callable

import torch
from torch import Tensor

from peftbench.execution.prepare import Prepared, inject
from peftbench.models.load import Loaded, load_model
from peftbench.models.resolve import resolve_model
from peftbench.plugins import registry
from peftbench.plugins.build import build_task
from peftbench.records.runs import Run

FAMILIES = ("bert", "roberta", "distilbert", "gpt2", "llama", "qwen2", "opt", "t5")


# The bridge is no method before it is told which one.
METHODS = sorted({"peft": "peft-ia3"}.get(name, name) for name in registry.load("method"))


Make = Callable[..., Run]


ROUNDING = 1e-5  # of the norm: orders of float32 sums of some dozens of numbers, through two layers


def inputs(padded: bool = True) -> dict[str, Tensor]:
    """Two items of 7 tokens, the second with two places of padding; each ends as its tokenizer ends a text."""
    tokens = torch.randint(5, 200, (2, 7), generator=torch.Generator().manual_seed(1))
    mask = torch.ones_like(tokens)
    tokens[:, -1] = END
    if padded:
        tokens[1, 4], tokens[1, 5:], mask[1, 5:] = END, 0, 0
    return {"input_ids": tokens, "attention_mask": mask}


END = 3  # T5's classifier reads the state of this token


@functools.cache
def _loaded(model: str, task: str, seed: int) -> Loaded:
    return load_model(resolve_model(model), build_task(task).objective, seed)


def fresh(run: Run) -> Loaded:
    """The run's model, read from its files once and copied after that."""
    cached = _loaded(run.model, run.task, run.seed)
    model = copy.deepcopy(cached.model)
    parameters = dict(model.named_parameters())
    return dataclasses.replace(cached, model=model, head={name: parameters[name] for name in cached.head})


def adapted(run: Run) -> Prepared:
    return inject(run, fresh(run), "cpu")


def logits(prepared: Prepared, padded: bool = True) -> Tensor:
    with torch.no_grad():
        out: Tensor = prepared.adaptation.model(**inputs(padded)).logits
    return out


def train_some(prepared: Prepared, steps: int = 5) -> None:
    """A few large steps on everything that is declared, so that every part of the method matters."""
    adaptation = prepared.adaptation
    if adaptation.fit is not None:

        def batches(split: str) -> list[dict[str, Tensor]]:
            generator = torch.Generator().manual_seed(len(split))
            tokens = torch.randint(5, 200, (24, 7), generator=generator)
            labels = torch.arange(24) % 2
            return [{"input_ids": tokens, "attention_mask": torch.ones_like(tokens), "labels": labels}]

        adaptation.fit(batches)
        return
    parameters = [*adaptation.params.values(), *prepared.head.values()]
    optimizer = torch.optim.SGD(parameters, lr=0.5)
    for step in range(steps):
        loss = torch.nn.functional.cross_entropy(adaptation.model(**inputs()).logits, torch.tensor([0, 1]))
        if adaptation.penalty is not None:
            loss = loss + adaptation.penalty()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        if adaptation.after_step is not None:
            adaptation.after_step(step, steps)
        optimizer.zero_grad()


def move(prepared: Prepared) -> None:
    """Numbers in what trains, so that parts that start at zero, or learn little in a few steps, matter."""
    generator = torch.Generator().manual_seed(5)
    for p in prepared.adaptation.params.values():
        p.data.add_(torch.randn(p.shape, generator=generator) * 0.05)
