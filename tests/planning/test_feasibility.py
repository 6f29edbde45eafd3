"""Whether a run can fit, by arithmetic, before anything runs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import transformers

from peftbench import UsageError
from peftbench.comparison.request import Comparison
from peftbench.engine.protocol import Capacity, Device
from peftbench.execution import optimizers, prepare
from peftbench.models.starters import byte_tokenizer
from peftbench.planning import feasibility
from peftbench.planning.counts import Bases, counts_of
from peftbench.planning.plan import plan
from peftbench.records.runs import OPTIMIZERS, PAGED_ADAMW_8BIT, Run

Make = Callable[..., Run]


def test_the_floor_is_weights_gradients_and_moments(make_run: Make) -> None:
    for method, share in (("full", 1.0), ("lora", None), ("head", 0.0)):
        run = make_run(method)
        prepared = prepare.prepare(run, prepare.objective_of(run), "meta")
        floor = feasibility.floor(prepared, trains=share != 0)
        base = sum(p.numel() for p in prepared.base)
        own = sum(p.numel() for p in prepared.adaptation.params.values())
        head = sum(p.numel() for p in prepared.head.values())
        trained = 0 if share == 0 else own + head
        extra = own if method == "lora" else 0
        # Buffers (positions, say) come on top of the weights: whole numbers, a few hundred.
        assert 4 * (base + extra) <= floor.weights_bytes <= 4 * (base + extra) + 10_000
        assert (floor.gradients_bytes, floor.optimizer_bytes) == (4 * trained, 8 * trained)


def test_moments_in_8_bits_take_two_bytes_a_number_and_a_scale_a_block(make_run: Make) -> None:
    run = make_run("full")
    prepared = prepare.prepare(run, prepare.objective_of(run), "meta")
    floors = [feasibility.floor(prepared, True, name) for name in OPTIMIZERS]
    whole, in_8_bits, paged = (floor.optimizer_bytes for floor in floors)
    trained = {id(p): p for p in (*prepared.adaptation.params.values(), *prepared.head.values())}
    embedded = optimizers.embeddings(prepared.adaptation.model)
    large = [p.numel() for p in trained.values() if p.numel() >= 4_096 and id(p) not in embedded]
    assert whole - in_8_bits == sum(6 * n - 8 * -(-n // 256) for n in large)
    assert paged == in_8_bits  # the tiny encoder has no tensor of 100,000 numbers
    assert optimizers.moment_bytes(PAGED_ADAMW_8BIT, 256_000, False) == 8_000  # the scales alone
    assert optimizers.moment_bytes(PAGED_ADAMW_8BIT, 256_000, True) == 0


def granting(memory_bytes: int) -> Capacity:
    return Capacity((Device("cpu", 1, memory_bytes, bfloat16=False),), cores=1)


def test_what_can_not_fit_is_a_row_before_anything_runs() -> None:
    """The tiny encoder has 42,000 weights, 168 kB; trained whole it needs four times that."""
    asked = Comparison(
        ("lora",), models=("tiny-encoder",), tasks=("synthetic",), latency_grid=(), profile=False
    )
    refusals = {item.run.method: item.refusal for item in plan(asked, granting(400_000))}
    assert refusals["lora"] is None and refusals["head"] is None
    assert refusals["full"] is not None and refusals["full"].startswith(
        "it does not fit: 0.0 GB (weights 0.0, gradients"
    )
    with pytest.raises(UsageError, match="lora on tiny-encoder: it does not fit"):
        plan(asked, granting(100_000))


@pytest.mark.parametrize(("method", "memory_bytes"), [("lora", 24_000_000_000), ("qlora", 10_000_000_000)])
def test_a_model_of_seven_billion_weights_fits_the_cards_that_it_is_tuned_on(
    method: str, memory_bytes: int, make_run: Make, tmp_path: Path
) -> None:
    """By its config alone, in 16 bit; in 32 it would not, nor does full fine-tuning."""
    config = transformers.LlamaConfig(  # Llama 2 7B
        hidden_size=4096, intermediate_size=11_008, num_hidden_layers=32, num_attention_heads=32, vocab_size=32_000, pad_token_id=0
    )  # fmt: skip
    config.architectures = ["LlamaForCausalLM"]
    config.save_pretrained(tmp_path)
    byte_tokenizer().save_pretrained(tmp_path)
    card = Device("cuda", 1, memory_bytes, bfloat16=True)

    def refusal(method: str, weights: str) -> str | None:
        return counts_of(
            make_run(method, str(tmp_path), task="", weights=weights, dtype="bfloat16"), card, Bases()
        ).refusal

    assert refusal(method, "bfloat16") is None
    assert refusal("lora", "float32") is not None
    assert refusal("full", "bfloat16") is not None
