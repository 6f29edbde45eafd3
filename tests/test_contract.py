"""One contract for every registered method: what it claims is so, on tiny models of several families."""

from __future__ import annotations

import copy
import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from peftbench import NotSupported, registry
from peftbench.declare import Claims
from peftbench.models import Loaded, load, resolve
from peftbench.prepare import Prepared, build_method, build_task, inject, prepare
from peftbench.runs import Run

FAMILIES = ("bert", "roberta", "distilbert", "gpt2", "llama", "qwen2", "opt", "t5")
# The bridge is no method before it is told which one.
METHODS = sorted({"peft": "peft-ia3"}.get(name, name) for name in registry.load("method"))
Make = Callable[..., Run]


ROUNDING = 1e-5  # of the norm: orders of float32 sums of some dozens of numbers, through two layers
ROUNDS = {"pissa"}  # adds B A x and takes B0 A0 x away, in one sum of floats


def claims_of(method: str) -> Claims:
    return build_method(method)[1].claims


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
    return load(resolve(model), build_task(task).objective, seed)


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


@pytest.fixture(params=FAMILIES)
def model(request: pytest.FixtureRequest, checkpoint: Callable[[str], str]) -> str:
    return checkpoint(request.param)


@pytest.fixture(params=METHODS)
def method(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def run(make_run: Make, model: str, method: str) -> Run:
    """A method on a model that it can serve; that one which it can't is refused in a sentence."""
    made = make_run(method, model)
    try:
        prepare(made, build_task(made.task).objective, "meta")
    except NotSupported as refusal:
        assert len(str(refusal)) > 20
        pytest.skip(str(refusal))
    return made


@pytest.mark.parametrize("padded", [True, False])
def test_identity_at_init(run: Run, method: str, padded: bool) -> None:
    """Where claimed, outputs equal the base's before training, bit for bit; where not claimed, they differ."""
    prepared = adapted(run)
    if claims_of(method).seedless:
        pytest.skip("is solved, not started from somewhere")
    with prepared.adaptation.without():
        base = logits(prepared, padded)
    got = logits(prepared, padded)
    same = (got - base).norm() <= ROUNDING * base.norm() if method in ROUNDS else torch.equal(got, base)
    assert same == claims_of(method).identity_at_init


def test_trains_what_it_declares_and_nothing_else(run: Run, method: str) -> None:
    prepared = adapted(run)
    model = prepared.adaptation.model
    declared = {id(p) for p in (*prepared.adaptation.params.values(), *prepared.head.values())}
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    train_some(prepared)
    moved = {name for name, p in model.named_parameters() if not torch.equal(p, before[name])}
    undeclared = {name for name, p in model.named_parameters() if id(p) not in declared}
    assert moved and not moved & undeclared
    if claims_of(method).exact_base:
        of_head = {id(p) for p in prepared.head.values()}
        base = {id(p) for p in prepared.base} - of_head
        assert not base & {id(p) for name, p in model.named_parameters() if name in moved}


def test_every_declared_parameter_gets_a_gradient(run: Run, method: str) -> None:
    prepared = adapted(run)
    if prepared.adaptation.fit is not None:
        pytest.skip("has no gradients")
    train_some(prepared, steps=1)
    parts = prepared.adaptation.params
    prepared.adaptation.model(**inputs(False)).logits.square().sum().backward()
    # A pooler, position or token-type row that these inputs never reach has none in any method.
    unreached = ("pooler", "token_type_embeddings", "position")
    without = [name for name, p in parts.items() if p.grad is None and not any(u in name for u in unreached)]
    assert not without


def test_merged_equals_unmerged_and_comes_back_exactly(run: Run, method: str) -> None:
    prepared = adapted(run)
    if not claims_of(method).mergeable:
        assert not prepared.adaptation.mergeable
        pytest.skip("does not claim to merge")
    train_some(prepared)
    move(prepared)
    trained = logits(prepared)
    with prepared.adaptation.without():
        base = logits(prepared)
    with prepared.adaptation.merged() as merged:
        assert not any(type(m).__name__ == "LoRALinear" for m in merged.modules())
        folded = logits(prepared)
    # Relative to what the method changes: two orders of float32 sums differ by about 1e-6 of the logits.
    change = (trained - base).norm()
    if prepared.adaptation.swaps:
        assert change > 1e-3
        assert (folded - trained).norm() <= 1e-3 * change
    assert torch.equal(logits(prepared), trained)


def test_saved_state_gives_the_same_outputs_under_another_seed(run: Run, method: str) -> None:
    prepared = adapted(run)
    train_some(prepared)
    if prepared.adaptation.settle is not None:
        prepared.adaptation.settle()
    trained = logits(prepared)
    state = {name: t.clone() for name, t in prepared.adaptation.state().items()}
    head = {name: p.detach().clone() for name, p in prepared.head.items()}
    again = adapted(dataclasses.replace(run, seed=run.seed + 1))
    again.adaptation.load(state)
    for name, p in again.head.items():
        p.data.copy_(head[name])
    # Bitwise: the same numbers go through the same operations.
    assert torch.equal(logits(again), trained)


def test_settling_does_not_change_outputs(run: Run, method: str) -> None:
    prepared = adapted(run)
    if prepared.adaptation.settle is None:
        pytest.skip("has nothing to settle")
    train_some(prepared)
    before = logits(prepared)
    prepared.adaptation.settle()
    assert torch.equal(logits(prepared), before)


def test_the_seed_reaches_the_init(run: Run, method: str) -> None:
    def drawn(seed: int) -> dict[str, Tensor]:
        adaptation = adapted(dataclasses.replace(run, seed=seed)).adaptation
        return {**adaptation.params, **adaptation.frozen}

    one, same, other = drawn(run.seed), drawn(run.seed), drawn(run.seed + 1)
    assert all(torch.equal(p, same[name]) for name, p in one.items())
    differs = any(not torch.equal(p, one[name]) for name, p in other.items())
    assert differs == claims_of(method).random_init


def test_remove_restores_the_base(run: Run, method: str) -> None:
    prepared = adapted(run)
    if not claims_of(method).exact_base or claims_of(method).seedless:
        pytest.skip("trains the base in place, or another head")
    with prepared.adaptation.without():
        base = logits(prepared)
    modules = {name: p for name, p in prepared.adaptation.params.items()}
    for p in modules.values():
        p.data.add_(0.1)
    prepared.adaptation.remove()
    assert torch.equal(logits(prepared), base)


def test_counts_are_known_without_weights(run: Run) -> None:
    from peftbench.measure.parameters import count_parameters

    counts = []
    for device in ("cpu", "meta"):
        prepared = prepare(run, build_task(run.task).objective, device)
        counts.append(count_parameters(prepared.adaptation, prepared.head, prepared.base))
    assert counts[0] == counts[1]


def test_all_methods_of_a_seed_start_from_one_head(make_run: Make, model: str) -> None:
    heads: list[dict[str, Any]] = []
    for method in METHODS:
        try:
            prepared = adapted(make_run(method, model))
        except NotSupported:
            continue
        if prepared.adaptation.head is None:
            heads.append({name: p.detach().clone() for name, p in prepared.head.items()})
    assert len(heads) > 2
    assert all(torch.equal(head[name], heads[0][name]) for head in heads for name in heads[0])


def test_prefix_is_refused_where_attention_cannot_be_exchanged(
    make_run: Make, checkpoint: Callable[[str], str]
) -> None:
    with pytest.raises(NotSupported, match="do not take a prefix"):
        adapted(make_run("prefix", checkpoint("deberta")))
