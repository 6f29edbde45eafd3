"""One contract for every registered method: what it claims is so, on tiny models of several families."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from peftbench import NotSupported
from peftbench.execution.prepare import prepare
from peftbench.plugins.build import build_method, build_task
from peftbench.plugins.contracts import Claims
from peftbench.records.runs import Run

from ..support.adapted import FAMILIES, METHODS, ROUNDING, Make, adapted, inputs, logits, move, train_some

ROUNDS = {"pissa"}  # adds B A x and takes B0 A0 x away, in one sum of floats


def claims_of(method: str) -> Claims:
    return build_method(method)[1].claims


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
