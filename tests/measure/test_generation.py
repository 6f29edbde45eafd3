"""Decoding with a cache gives what a pass over everything gives."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from peftbench.execution.prepare import inject
from peftbench.measure.generation import Greedy
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
