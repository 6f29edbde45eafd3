"""Decoding with a cache gives what a pass over everything gives."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from transformers import StaticCache

from peftbench.execution.prepare import inject
from peftbench.measure.generation import NO_GRAPHS, Greedy, measure_generation
from peftbench.models.load import load_model
from peftbench.models.resolve import resolve_model
from peftbench.records.runs import Run


@pytest.mark.parametrize("method", ["lora", "prefix:length=4", "adapter"])
def test_decoding_with_a_cache_gives_what_a_pass_over_everything_gives(
    method: str, make_run: Callable[..., Run], cache: object
) -> None:
    run = make_run(method, "tiny-decoder", kind="latency", task="")
    prepared = inject(run, load_model(resolve_model(run.model), None, 0), "cpu")
    if prepared.adaptation.settle is not None:
        prepared.adaptation.settle()
    model, prompt = prepared.adaptation.model, torch.arange(20).reshape(2, 10) + 5
    with torch.inference_mode():
        for parameter in prepared.adaptation.params.values():
            parameter.add_(torch.randn(parameter.shape) * 0.1)
        greedy = Greedy(model, prompt, 5)
        greedy.read()
        greedy.decode()
        tokens = prompt
        for step in range(5):
            logits = model(input_ids=tokens, attention_mask=torch.ones_like(tokens), use_cache=False).logits
            assert torch.equal(greedy.tokens[step], logits[:, -1:].argmax(-1))
            tokens = torch.cat([tokens, greedy.tokens[step]], dim=1)
        cache = StaticCache(config=model.config, max_cache_len=15)  # type: ignore[arg-type]
        for _ in range(2):  # the second text finds an empty one
            static = Greedy(model, prompt, 5, model, cache)
            static.read()
            static.decode()
            assert torch.equal(torch.cat(static.tokens, 1), torch.cat(greedy.tokens, 1))


def test_generation_is_timed_as_it_is_executed(cache: object, monkeypatch: pytest.MonkeyPatch) -> None:
    """Compiled: every timed pass, over a cache of one length, in two shapes. By CUDA graphs: not at all."""
    model = load_model(resolve_model("tiny-decoder"), None, 0).model
    shapes = []

    def counted(module: nn.Module, **options: object) -> Callable[..., object]:
        def forward(**inputs: Any) -> object:
            layer: Any = inputs["past_key_values"].layers[0]
            assert isinstance(inputs["past_key_values"], StaticCache) and inputs["attention_mask"] is None
            shapes.append((*inputs["input_ids"].shape, layer.max_cache_len))
            return module(**inputs)

        return forward

    monkeypatch.setattr(torch, "compile", counted)
    (cell,) = measure_generation({"base": model}, ((1, 8),), torch.device("cpu"), 3, 4, "compile")
    assert set(shapes) == {(1, 8, 12), (1, 1, 12)} and shapes.count((1, 1, 12)) == 5 * 3
    assert len(cell.token_ms["base"]) == 3
    (cell,) = measure_generation({"base": model}, ((1, 8),), torch.device("cpu"), 3, 4, "cuda-graphs")
    assert cell.refusal == NO_GRAPHS and not cell.token_ms
