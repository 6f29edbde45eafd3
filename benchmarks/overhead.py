"""What the harness costs: one method, one seed, against a bare PyTorch loop with the same steps and evaluation.

    python benchmarks/overhead.py [--steps 2900] [--rounds 1]

Both start in a fresh process and end with a test accuracy; the rounds alternate. Goal: at most 10 % more wall time, at
three minutes of training or more. The bare loop reads the same file, tokenises, trains LoRA by hand and scores.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time

BATCH, LENGTH = 16, 48


def bare(steps: int) -> None:
    """What a careful person writes in a script: no harness, no registry, no records."""
    import numpy as np
    import torch
    import transformers
    from torch import nn
    from torch.nn import functional

    from peftbench.measure.environment import has_bfloat16
    from peftbench.models.pooled import MeanPooledClassifier
    from peftbench.models.resolve import resolve_model
    from peftbench.plugins import registry

    folder = resolve_model("minilm-l6").location
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    splits = registry.get("task", "rotten-tomatoes").target().splits()
    torch.manual_seed(0)
    model = MeanPooledClassifier(transformers.AutoModel.from_pretrained(folder), 2).requires_grad_(False)

    class Update(nn.Module):
        def __init__(self, base: nn.Linear) -> None:
            super().__init__()
            self.base = base
            self.a = nn.Parameter(torch.randn(8, base.in_features) * 0.02)
            self.b = nn.Parameter(torch.zeros(base.out_features, 8))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.base(x) + functional.linear(functional.linear(x, self.a), self.b) * 2.0

    for layer in model.backbone.encoder.layer:
        layer.attention.self.query = Update(layer.attention.self.query)
        layer.attention.self.value = Update(layer.attention.self.value)
    model.classifier.requires_grad_(True)
    trainable = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trainable, lr=2e-3, weight_decay=0.0, fused=True)
    scheduler = transformers.get_linear_schedule_with_warmup(optimizer, int(0.06 * steps), steps)
    data = {
        name: tokenizer(list(splits[name]["text"]), truncation=True, max_length=LENGTH)["input_ids"]
        for name in ("train", "test")
    }
    labels = {name: torch.tensor(splits[name]["label"]) for name in data}
    lengths = {name: np.array([len(x) for x in data[name]]) for name in data}
    compute = torch.bfloat16 if has_bfloat16("cpu") else torch.float32

    def batch(name: str, items: np.ndarray) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
        padded = tokenizer.pad({"input_ids": [data[name][i] for i in items]}, return_tensors="pt")
        return {k: padded[k] for k in ("input_ids", "attention_mask")}, labels[name][items]

    draw, done = np.random.default_rng(0), 0
    model.train()
    while done < steps:
        order = draw.permutation(len(lengths["train"]))
        for start in range(0, len(order) - BATCH * 50, BATCH * 50):
            window = order[start : start + BATCH * 50]
            window = window[np.argsort(lengths["train"][window])]
            for index in draw.permutation(50):
                inputs, targets = batch("train", window[index * BATCH : (index + 1) * BATCH])
                with torch.autocast("cpu", compute, enabled=compute != torch.float32):
                    loss = functional.cross_entropy(model(**inputs).logits.float(), targets)
                loss.backward()
                torch.nn.utils.clip_grad_norm_(trainable, 1.0)
                optimizer.step()
                scheduler.step()
                optimizer.zero_grad()
                if not torch.isfinite(loss):
                    raise ArithmeticError("diverged")
                done += 1
                if done == steps:
                    break
            if done == steps:
                break
    model.eval()
    order, right = np.argsort(-lengths["test"]), 0
    with torch.inference_mode(), torch.autocast("cpu", compute, enabled=compute != torch.float32):
        for start in range(0, len(order), 85):
            inputs, targets = batch("test", order[start : start + 85])
            right += int((model(**inputs).logits.argmax(-1) == targets).sum())
    print(f"bare accuracy {right / len(order):.3f}", file=sys.stderr)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--steps", type=int, default=2900)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--bare", action="store_true", help="run the bare loop alone (used by this script)")
    asked = parser.parse_args()
    if asked.bare:
        bare(asked.steps)
        return
    times: dict[str, list[float]] = {"bare loop": [], "peftbench": []}
    for turn in range(asked.rounds):
        for name in sorted(times, reverse=bool(turn % 2)):
            with tempfile.TemporaryDirectory() as store:
                command = [sys.executable, __file__, "--bare", "--steps", str(asked.steps)]
                if name == "peftbench":
                    command = [sys.executable, "-m", "peftbench", "run", "--methods", "lora", "--seeds", "1"]
                    command += [
                        "--no-baselines",
                        "--latency-grid",
                        "none",
                        "--steps",
                        str(asked.steps),
                        "--store",
                        store,
                    ]
                started = time.perf_counter()
                subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
                times[name].append(time.perf_counter() - started)
            print(f"{name} {times[name][-1]:.1f} s", file=sys.stderr)
    print(f"| {asked.steps} steps of LoRA, fresh process | wall s |\n|---|---|")
    for name, seconds in times.items():
        print(f"| {name} | {statistics.median(seconds):.1f} |")
    ratio = statistics.median(b / a for a, b in zip(times["bare loop"], times["peftbench"], strict=True))
    print(f"\nratio {ratio:.3f} (goal: at most 1.10), {asked.rounds} alternating round(s)")


if __name__ == "__main__":
    main()
