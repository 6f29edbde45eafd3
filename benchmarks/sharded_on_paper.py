"""What each GPU would hold, and what would travel, if one run were sharded over N of them (FSDP2): arithmetic on models without weights.

    python benchmarks/sharded_on_paper.py > docs/scale.md

Nothing here is measured, and this program does not shard a run yet. Weights, gradients and optimizer states are those of the plan's own floor
(`peftbench.planning.feasibility`), taken from the method let into the model on the meta device.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from typing import Any

import transformers
from torch import nn

from peftbench.execution import prepare
from peftbench.models.starters import byte_tokenizer
from peftbench.planning.feasibility import Floor, floor
from peftbench.records.runs import Budget, Run

SHAPES = {  # Llama 3.1 (Grattafiori et al., 2024, table 3): width, feed-forward, layers, heads
    "8B": (4096, 14_336, 32, 32),
    "70B": (8192, 28_672, 80, 64),
    "405B": (16_384, 53_248, 126, 128),
}
KEY_VALUE_HEADS, VOCABULARY = 8, 128_256
METHODS = ("lora", "qlora", "full")
GPUS = (1, 2, 4, 8, 16, 32, 64)
TOKENS = 4096  # of one sequence on each GPU
CARD_BYTES = 80_000_000_000
BFLOAT16_BYTES = 2
LINK_BYTES_S = 50_000_000_000  # 400 Gbit/s, what a node of an H100 cluster commonly has for each GPU


@dataclass(frozen=True)
class Sharded:
    """One method on one model."""

    held: Floor
    sent_bytes: int  # all weights as they travel: in the type of the compute, codes as they are
    group_bytes: int  # of these the largest group, which is gathered as a whole
    inputs_bytes: int  # of all blocks, for one sequence: what checkpointing keeps

    def on_each_bytes(self, gpus: int) -> float:
        """Its share; over several also two groups in whole, the one that computes and the one that is fetched meanwhile."""
        gathered = 0 if gpus == 1 else 2 * self.group_bytes
        return self.held.total_bytes / gpus + gathered + self.inputs_bytes

    def travels_bytes(self, gpus: int) -> float:
        """Into each GPU a step: weights for the forward and for the backward pass, and its share of the gradients' sum."""
        return (gpus - 1) / gpus * (2 * self.sent_bytes + self.held.gradients_bytes)


def main() -> None:
    sharded = {(size, method): of(size, method) for size in SHAPES for method in METHODS}
    print(HEAD.strip() + "\n")
    print("## What each GPU holds, GB\n")
    print(
        "| model | method | weights / gradients / optimizer, in all | "
        + " | ".join(f"N = {n}" for n in GPUS)
        + " | fits 80 GB from |"
    )
    print("|---|---|---|" + "---|" * (len(GPUS) + 1))
    for (size, method), one in sharded.items():
        parts = (one.held.weights_bytes, one.held.gradients_bytes, one.held.optimizer_bytes)
        cells = [gb(one.on_each_bytes(n)) for n in GPUS]
        first = next((f"N = {n}" for n in GPUS if one.on_each_bytes(n) <= CARD_BYTES), "no N to 64")
        print(f"| {size} | {method} | {' / '.join(map(gb, parts))} | {' | '.join(cells)} | {first} |")
    print("\n## What travels into each GPU, GB a step\n")
    print(
        "| model | method | "
        + " | ".join(f"N = {n}" for n in GPUS[1:])
        + " | at 50 GB/s, N = 64 |\n|---|---|"
        + "---|" * len(GPUS)
    )
    for (size, method), one in sharded.items():
        cells = [gb(one.travels_bytes(n)) for n in GPUS[1:]]
        print(f"| {size} | {method} | {' | '.join(cells)} | {one.travels_bytes(64) / LINK_BYTES_S:.1f} s |")
    print("\n" + TAIL.strip())


def of(size: str, method: str) -> Sharded:
    """The method in a model of that size, its base in bfloat16."""
    width, ffn, layers, heads = SHAPES[size]
    config = transformers.LlamaConfig(
        hidden_size=width, intermediate_size=ffn, num_hidden_layers=layers, num_attention_heads=heads, num_key_value_heads=KEY_VALUE_HEADS,
        vocab_size=VOCABULARY, tie_word_embeddings=False, max_position_embeddings=8_192, pad_token_id=0,
    )  # fmt: skip
    config.architectures = ["LlamaForCausalLM"]
    with tempfile.TemporaryDirectory() as folder:
        config.save_pretrained(folder)
        byte_tokenizer().save_pretrained(folder)
        run = Run(
            kind="training", method=method, model=folder, task="", seed=0, learning_rate=0.0, head_learning_rate=0.0, weight_decay=0.0,
            budget=Budget("custom", 1, None, 1, 1, TOKENS), device="cuda", dtype="bfloat16", grid=None, plugins=(), identity={}, weights="bfloat16",
        )  # fmt: skip
        prepared = prepare.prepare(run, None, "meta")
    model: Any = prepared.adaptation.model
    largest = max(map(sent_bytes, (*model.model.layers, model.lm_head)))
    inputs = layers * TOKENS * width * BFLOAT16_BYTES
    return Sharded(floor(prepared, trains=True), sent_bytes(model), largest, inputs)


def sent_bytes(module: nn.Module) -> int:
    """With a mixed-precision policy what trains in float32 is cast to bfloat16 before it is sent."""
    tensors = (*module.parameters(), *module.buffers())
    return sum(t.numel() * (BFLOAT16_BYTES if t.requires_grad else t.element_size()) for t in tensors)


def gb(size_bytes: float) -> str:
    return f"{size_bytes / 1e9:,.1f}"


HEAD = """
<!-- made by benchmarks/sharded_on_paper.py -->
# One run over several GPUs, on paper

**Nothing on this page is measured, and this program does not shard a run yet**: today a run has one GPU, and several GPUs do several runs. The page says what sharding would take, by arithmetic on
models without weights. Shapes are those of Llama 3.1 (Grattafiori et al., 2024). The frozen base is bfloat16, what trains and its gradients are float32, the optimizer is AdamW. `lora` and `qlora` have the
defaults of [methods.md](methods.md); `qlora`'s codes are taken as sharded.

Under FSDP2, with `fully_shard` on each block, N GPUs hold an Nth of weights, gradients and optimizer states each. In addition, each holds two groups of weights in whole, in bfloat16 or as codes (the one that computes, and the next one), where the
largest group is a block or the output layer, and the inputs of all blocks for one sequence of 4,096 tokens (activation checkpointing). What a block needs inside itself, the logits' chunks, buffers of the network library and fragments come on top.
"""
TAIL = """
Into each GPU go the weights twice a step, in bfloat16 or as codes, for the forward and the backward pass, and float32 gradients to be summed for its share. 50 GB/s is 400 Gbit/s for each GPU: the time is what the bytes take there if nothing hides them, not a step's time.

## Where it stops

- **`lora`**: what limits is the frozen base. Its gradients and states are small, so adding GPUs beyond those that hold the base buys tokens per second and no memory.
- **`qlora`**: about a third of the base's bytes to hold and to send (codes, their scales, and embeddings in 16 bit), at the price of decoding them in every pass.
- **`full`**: float32 weights, gradients and two moments are 16 bytes a weight to hold. It travels as bfloat16 weights twice and float32 gradients once, 8 bytes a weight.
- Past the N from which a model fits, a GPU's share shrinks and the two gathered groups stay: the last columns of a row differ little.
- The traffic of a GPU does not shrink with N. With few tokens on each GPU a step is then as long as its traffic; more tokens in a step hide it.
"""


if __name__ == "__main__":
    main()
