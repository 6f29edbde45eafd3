"""The contract under the conditions of real training: half-precision weights, checkpointed activations, a compiler."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch._dynamo.testing import CompileCounterWithBackend

from peftbench import NotSupported
from peftbench.execution.prepare import Prepared, inject
from peftbench.models.precision import checkpoint_activations, frozen_in
from peftbench.models.starters import byte_tokenizer
from peftbench.records.runs import Run

from ..conftest import MAKERS
from ..support.adapted import FAMILIES, METHODS, fresh, inputs, move

Make = Callable[..., Run]


@pytest.fixture(params=FAMILIES)
def model(request: pytest.FixtureRequest, checkpoint: Callable[[str], str]) -> str:
    return checkpoint(request.param)


@pytest.fixture(params=METHODS)
def method(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def adapted(run: Run, dtype: torch.dtype = torch.float32) -> Prepared:
    """Over a base whose weights are in `dtype`; skips where the method can't serve the model."""
    loaded = fresh(run)
    loaded.model.to(dtype)
    try:
        prepared = inject(run, loaded, "cpu")
    except NotSupported as error:
        pytest.skip(str(error))
    if prepared.adaptation.fit is not None:
        pytest.skip("has no steps")
    return prepared


def step(prepared: Prepared, dtype: torch.dtype = torch.float32) -> tuple[Tensor, dict[str, Tensor]]:
    """Logits and gradients of one training pass; dropout draws the same numbers each time."""
    adaptation = prepared.adaptation
    torch.manual_seed(3)
    adaptation.model.train()
    with torch.autocast("cpu", torch.bfloat16, enabled=dtype != torch.float32):
        out: Tensor = adaptation.model(**inputs()).logits
    out.float().square().sum().backward()
    gradients = {name: p.grad for name, p in adaptation.params.items() if p.grad is not None}
    for p in adaptation.params.values():
        p.grad = None
    return out.detach().float(), gradients


def test_half_precision_and_checkpointing(make_run: Make, model: str, method: str) -> None:
    """Checkpointed activations change nothing; over bfloat16 weights under autocast what trains stays float32."""
    run = make_run(method, model)
    prepared = adapted(run)
    move(prepared)
    want, wanted = step(prepared)
    checkpoint_activations(prepared.adaptation.model)
    got, gradients = step(prepared)
    torch.testing.assert_close(got, want, rtol=1e-5, atol=1e-5)
    assert gradients.keys() == wanted.keys()
    for name, gradient in gradients.items():
        torch.testing.assert_close(gradient, wanted[name], rtol=1e-3, atol=1e-4, msg=name)

    half = adapted(run, torch.bfloat16)
    move(half)
    with frozen_in(half.adaptation.model, torch.bfloat16):
        out, gradients = step(half, torch.bfloat16)
    assert gradients and all(g.dtype == torch.float32 and g.isfinite().all() for g in gradients.values())
    # bfloat16 has 8 bits: relative errors of .4 % a product, through two layers of a model with large weights, of a
    # base that was rounded once; the smallest logits here are about .1.
    assert (out - want).norm() <= 0.2 * want.norm() + 0.08


@pytest.fixture(scope="module")
def shallow(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], str]:
    """One block is enough for a compiler, which takes seconds for each."""
    home = tmp_path_factory.mktemp("shallow")

    def of_family(family: str) -> str:
        folder = home / family
        if not folder.is_dir():
            tokenizer = byte_tokenizer()
            model = MAKERS[family](len(tokenizer))
            model.config.num_hidden_layers = 1
            type(model)(model.config).save_pretrained(folder)
            tokenizer.save_pretrained(folder)
        return str(folder)

    return of_family


@pytest.mark.parametrize("family", ["bert", "llama"])
@pytest.mark.filterwarnings("ignore")  # the compiler's own
def test_compiled(make_run: Make, shallow: Callable[[str], str], family: str, method: str) -> None:
    """Traced by dynamo and autograd ahead of time, it computes what it does eagerly."""
    prepared = adapted(make_run(method, shallow(family)))
    move(prepared)
    model: Any = prepared.adaptation.model.eval()
    want = model(**inputs()).logits
    torch._dynamo.reset()
    try:
        counter = CompileCounterWithBackend("aot_eager")
        faster: Any = torch.compile(model, backend=counter)
        got = faster(**inputs()).logits
        got.square().sum().backward()
    finally:
        torch._dynamo.reset()
    torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-4)
    # One graph: nothing in a layer that the compiler can't trace. The attention function of `prefix` is entered outside.
    assert counter.frame_count == (2 if method == "prefix" else 1)
    parts = prepared.adaptation.params.values()
    compiled = [p.grad.clone() if p.grad is not None else None for p in parts]
    model.zero_grad()
    want.square().sum().backward()
    for ours, p in zip(compiled, parts, strict=True):
        assert (ours is None) == (p.grad is None)
        if ours is not None and p.grad is not None:
            torch.testing.assert_close(ours, p.grad, rtol=1e-3, atol=1e-3)
