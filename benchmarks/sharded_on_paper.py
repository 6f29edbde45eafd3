"""What each GPU holds, and what travels, where one run shares a base over N of them: arithmetic on models without weights.

    python benchmarks/sharded_on_paper.py > docs/scale.md

Nothing here is measured. Weights, gradients and optimizer states are those of the plan's own floor (`peftbench.planning.feasibility`), taken
from the method let into the model on the meta device.
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
    """One method on one model, as `peftbench.execution.shard` divides it."""

    held: dict[int, Floor]  # by number of GPUs
    block_bytes: int  # of a block's shared weights, in whole
    rest_bytes: int  # of the shared weights outside the blocks
    blocks: int
    shared_gradients_bytes: int
    own_gradients_bytes: int  # of what each GPU has all of
    inputs_bytes: int  # of all blocks, for one sequence: what checkpointing keeps

    def on_each_bytes(self, gpus: int) -> float:
        """Its share; over several also what is gathered: all outside the blocks, a block that computes and one that is fetched meanwhile."""
        gathered = 0 if gpus == 1 else self.rest_bytes + 2 * self.block_bytes
        return self.held[gpus].total_bytes + gathered + self.inputs_bytes

    def travels_bytes(self, gpus: int) -> float:
        """Into each GPU a step: blocks for the forward and the backward pass, the rest once, and the sums of gradients."""
        weights = 2 * self.blocks * self.block_bytes + self.rest_bytes
        return (gpus - 1) / gpus * (weights + self.shared_gradients_bytes + 2 * self.own_gradients_bytes)


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
        alone = one.held[1]
        parts = (alone.weights_bytes, alone.gradients_bytes, alone.optimizer_bytes)
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
    of_base = {id(p) for p in prepared.base}
    own = {id(p) for p in prepared.adaptation.params.values() if id(p) not in of_base}
    trained = prepared.adaptation.params.values()
    block = shared_bytes(model.model.layers[0], own)
    return Sharded(
        held={gpus: floor(prepared, True, sharing=gpus) for gpus in GPUS},
        block_bytes=block,
        rest_bytes=shared_bytes(model, own) - layers * block,
        blocks=layers,
        shared_gradients_bytes=sum(4 * p.numel() for p in trained if id(p) not in own),
        own_gradients_bytes=sum(4 * p.numel() for p in trained if id(p) in own),
        inputs_bytes=layers * TOKENS * width * BFLOAT16_BYTES,
    )


def shared_bytes(module: nn.Module, own: set[int]) -> int:
    tensors = (*module.parameters(), *module.buffers())
    return sum(t.numel() * t.element_size() for t in tensors if id(t) not in own)


def gb(size_bytes: float) -> str:
    return f"{size_bytes / 1e9:,.1f}"


HEAD = """
<!-- made by benchmarks/sharded_on_paper.py -->
# One run over several GPUs

`peftbench run --gpus-per-run N` starts N processes for each training run and each cost run, a GPU each, on one machine. Nothing else in the command changes, and neither does the result: the batch, its order, the loss,
clipping and the saved file are those of one process ([how that was tested](results/scale.md)). It is for a model that is too large for one GPU. If the model fits, N runs at once on N GPUs finish sooner.

- `--parallel fsdp`, the default: each GPU works on its part of every batch and holds its part of the base model's weights (torch's FSDP2, a group for each block). A block is put together for as long as it computes. What a method adds, and the
  head, each GPU has in whole. What a method trains of the base itself (`full`, `bitfit`) is shared, with its gradients and optimizer states.
- `--parallel ddp`: each GPU has the whole model and works on its part of every batch.
- Each process does `--accumulate` parts of a batch. Gradients are summed, not averaged, because each loss is weighted by its share of the whole batch.
- The table shows the peak memory of the process that takes most, and a footnote the sum over all. Tokens/s are those of all together. Latency is measured on one GPU.
- If a process dies, the run ends as a failed row with the reason, and with the last lines of that process in its record.
- On a CPU, `--gpus-per-run 2` starts two processes without a GPU, to try it.

Limits: one machine for each run; every process reads the whole checkpoint into the host's memory before it keeps its part; the check `save and load` reads it twice more; weights in float32 under a bfloat16 compute type travel as float32; `--forgetting` first puts the whole base on
one GPU; 8-bit optimizers can't train shared weights, so `full` with them is `not supported`. So is a method that keeps some of the base's weights
beside the model or hooks their gradients (use `--parallel ddp`), and one that draws in a step or counts what it sees, so that processes go apart. Where the base is shared, texts are written with the method's own layers, not with merged ones.
Hooks of a method on gradients see one process's part of a batch, before the sum: one that scales them is right, one that clips them is not.

**What follows is arithmetic, and nothing of it is measured.** Shapes are those of Llama 3.1 (Grattafiori et al., 2024). The frozen base is bfloat16, what trains and its gradients are float32, the optimizer is AdamW. `lora` and `qlora` have the
defaults of [methods.md](methods.md). Columns beyond the GPUs of one machine say what sharing would give there.

Each of N GPUs holds an Nth of the shared weights, gradients and optimizer states, and all of what the method adds. In addition, each holds in whole what lies outside the blocks (embeddings and output layer), two blocks (the one that computes and the next one),
and the inputs of all blocks for one sequence of 4,096 tokens (activation checkpointing). What a block needs inside itself, the logits' chunks, buffers of the network library and fragments come on top.
"""
TAIL = """
Into each GPU go the blocks' weights twice a step, for the forward and the backward pass, the other weights once, and float32 gradients to be summed. 50 GB/s is 400 Gbit/s for each GPU: the time is what the bytes take there if nothing hides them, not a step's time.

## Where it stops

- **`lora`**: what limits is the frozen base. Its gradients and states are small, so adding GPUs beyond those that hold the base buys tokens per second and no memory.
- **`qlora`**: about a third of the base's bytes to hold and to send (codes, their scales, and embeddings in 16 bit), at the price of decoding them in every pass. Its adapters on all linear layers are whole on each GPU.
- **`full`**: float32 weights, gradients and two moments are 16 bytes a weight to hold. It travels as float32, weights twice and gradients once, 12 bytes a weight.
- Past the N from which a model fits, a GPU's share shrinks and what is gathered stays: the last columns of a row differ little.
- The traffic of a GPU does not shrink with N. With few tokens on each GPU a step is then as long as its traffic; more tokens in a step hide it.
"""


if __name__ == "__main__":
    main()
