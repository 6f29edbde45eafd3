"""LoRA here, in the PEFT library and in loralib, beside a frozen forward pass and full fine-tuning: time and memory.

    python benchmarks/against_peers.py [--models minilm-l6,...] [--processes 3] [--rounds 40]
                                        [--dtype float32|bfloat16] [--device cpu]

Same weights, batch and data type; everything takes turns in one process, in several fresh processes; sizes from
launch-bound to compute-bound. Memory is measured with one subject a process. Needs `pip install peft loralib`.

Goals: the training step's interval reaches 1.00 of PEFT's or below at every size on a CPU, 0.95 in the geometric mean on
CUDA; unmerged overhead over the base at most half of PEFT's where launches bound; merged equivalent to the base; peak
memory no higher; LoRA's step over full fine-tuning's below 0.70 where arithmetic bounds.
"""

from __future__ import annotations

import argparse
import copy
import json
import math
import statistics
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import torch
from torch import nn

from peftbench.measure.breakdown import memory_by_kind
from peftbench.measure.clock import synchronized_clock
from peftbench.measure.environment import describe
from peftbench.measure.latency import into_own_memory, measure_latency, over_shared_weights, random_inputs
from peftbench.measure.memory import MemoryMeter
from peftbench.measure.turns import turns
from peftbench.models.adaptation import weight_of
from peftbench.models.load import load_model
from peftbench.models.precision import frozen_in
from peftbench.models.resolve import resolve_model
from peftbench.models.streams import init_streams
from peftbench.plugins import build
from peftbench.stats.slowdown import EQUIVALENCE, Slowdown, slowdown

RANK, ALPHA = 8, 16
SIZES = {  # (batch, length), the first bound by launches, the last by arithmetic
    "cpu": {
        "minilm-l6": ((1, 16), (4, 16), (16, 48), (16, 128)),
        "smollm2-135m-instruct-q4": ((1, 16), (4, 64)),
        "random-gpt2-medium": ((1, 16), (4, 32)),
    },
    "cuda": {
        "minilm-l6": ((1, 16), (4, 16), (32, 128), (256, 128)),
        "smollm2-135m-instruct-q4": ((1, 16), (16, 128), (32, 512)),
        "random-gpt2-medium": ((1, 128), (16, 256), (32, 512)),
    },
}
SUBJECTS = ("here", "peft", "loralib", "frozen forward", "full")
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def subject(name: str, base: nn.Module) -> nn.Module:
    """A model in a tree of its own over the base's weights; what trains requires a gradient."""
    if name == "full":
        return copy.deepcopy(base).requires_grad_(True)
    tree = over_shared_weights(base)
    if name == "here":
        method, _ = build.build_method(f"lora:rank={RANK}:alpha={ALPHA}")
        with init_streams(0, "lora"):
            method.inject(tree)
    elif name == "peft":
        import peft

        fused = base.config.model_type == "gpt2"
        targets = {"bert": ["query", "value"], "llama": ["q_proj", "v_proj"], "gpt2": ["c_attn"]}
        config = peft.LoraConfig(
            r=RANK, lora_alpha=ALPHA, target_modules=targets[base.config.model_type], fan_in_fan_out=fused
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            peft.inject_adapter_in_model(config, tree)
    elif name.startswith("loralib"):
        _with_loralib(tree, merge=name.endswith("merged"))
    for parameter_name, parameter in tree.named_parameters():
        parameter.requires_grad_("classifier" in parameter_name)
    of_base = {id(p) for p in base.parameters()}
    for parameter in tree.parameters():
        if id(parameter) not in of_base and parameter.shape[0] != 0 and name != "frozen forward":
            parameter.requires_grad_(True)
    return tree


def _with_loralib(tree: nn.Module, merge: bool) -> None:
    """Its layers hold their own weight; merging writes it, so a merged one gets a copy."""
    import loralib

    for name, layer in list(tree.named_modules()):
        last = name.rsplit(".", 1)[-1]
        if last in ("query", "value", "q_proj", "v_proj"):
            made: Any = loralib.Linear(
                layer.in_features, layer.out_features, r=RANK, lora_alpha=ALPHA, merge_weights=merge,
                bias=layer.bias is not None,
            )  # fmt: skip
        elif last == "c_attn":
            out_features, in_features = weight_of(layer).shape
            made = loralib.MergedLinear(
                in_features, out_features, r=RANK, lora_alpha=ALPHA, enable_lora=[True, False, True],
                fan_in_fan_out=True, merge_weights=merge,
            )  # fmt: skip
        else:
            continue
        made.weight = nn.Parameter(layer.weight.clone()) if merge else layer.weight
        if layer.bias is not None:
            made.bias = layer.bias
        tree.set_submodule(name, made.to(layer.weight.device))


def step_of(name: str, model: nn.Module, batch: int, length: int, dtype: torch.dtype) -> Callable[[], Any]:
    """One training step on a fixed batch; for the frozen model a forward pass without gradient."""
    device = next(model.parameters()).device
    inputs = random_inputs(model.config.vocab_size, batch, length, device)
    autocast = torch.autocast(device.type, dtype, enabled=dtype != torch.float32)
    if name == "frozen forward":

        def forward() -> None:
            with torch.no_grad(), autocast:
                model(**inputs)

        return forward
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-4, weight_decay=0.0, fused=True)
    targets = torch.arange(batch, device=device) % 2

    def step() -> None:
        with autocast:
            logits = model(**inputs).logits
        if logits.ndim == 3:  # a language model: the next token
            loss = nn.functional.cross_entropy(
                logits[:, :-1].flatten(0, 1).float(), inputs["input_ids"][:, 1:].flatten()
            )
        else:
            loss = nn.functional.cross_entropy(logits.float(), targets)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        optimizer.zero_grad()

    step.optimizer = optimizer  # type: ignore[attr-defined]
    return step


def child_times(asked: argparse.Namespace) -> dict[str, Any]:
    """Everything in turns in this process: seconds of training steps and of forward passes, by size and subject."""
    device, dtype = torch.device(asked.device), DTYPES[asked.dtype]
    base = load_model(resolve_model(asked.child), None, 0).model.requires_grad_(False).to(device)
    into_own_memory(base)
    clock = synchronized_clock(device)
    found: dict[str, Any] = {"step": {}, "latency": {}}
    models = {name: subject(name, base).train() for name in SUBJECTS}
    models["frozen forward"].eval()
    with frozen_in(models["here"], dtype) if dtype != torch.float32 else frozen_in(nn.Module(), dtype):
        for batch, length in SIZES[device.type][asked.child]:
            steps = {name: step_of(name, model, batch, length, dtype) for name, model in models.items()}
            for step in (*steps.values(), *steps.values()):
                step()
            began = clock()
            for step in steps.values():
                step()
            rounds = max(8, min(60, int(asked.seconds / (clock() - began))))
            times: dict[str, list[float]] = {name: [] for name in steps}
            for order in turns(list(steps), rounds):
                for name in order:
                    began = clock()
                    steps[name]()
                    times[name].append(clock() - began)
            found["step"][f"{batch}x{length}"] = times
    del models
    variants = {"base": base, "copy of the base": copy.deepcopy(base)}
    for name in ("here", "peft", "loralib"):
        variants[name] = subject(name, base)
    merged = over_shared_weights(base)
    for name, module in variants["here"].named_modules():
        if hasattr(module, "fold"):
            merged.set_submodule(name, module.fold())
    variants["here merged"] = merged
    variants["peft merged"] = subject("peft", copy.deepcopy(base))
    for module in variants["peft merged"].modules():
        if hasattr(module, "lora_A") and hasattr(module, "merge"):
            module.merge()
    variants["loralib merged"] = subject("loralib merged", base)
    for model in variants.values():
        model.eval().to(dtype)
    cells = SIZES[device.type][asked.child]
    for cell in measure_latency(variants, cells, device, asked.rounds):
        found["latency"][f"{cell.batch}x{cell.length}"] = cell.ms
    return found


def child_memory(asked: argparse.Namespace) -> dict[str, Any]:
    """One subject's training step alone in this process, at the largest size."""
    model_name, name = asked.child_memory
    device, dtype = torch.device(asked.device), DTYPES[asked.dtype]
    base = load_model(resolve_model(model_name), None, 0).model.requires_grad_(False).to(device)
    model = subject(name, base).train()
    base = None
    batch, length = SIZES[device.type][model_name][-1]
    meter = MemoryMeter(device)
    meter.mark_model(model)
    ours = name == "here" and dtype != torch.float32
    with frozen_in(model if ours else nn.Module(), dtype) as aside:
        step = step_of(name, model, batch, length, dtype)
        with meter.phase():
            for _ in range(3):
                step()
        kinds = None
        if hasattr(step, "optimizer"):
            kinds = asdict(memory_by_kind(step, model, step.optimizer, device, aside))
    assert meter.last is not None
    return {"peak_bytes": meter.last.headline_bytes, "kinds": kinds}


def ask(*arguments: str) -> dict[str, Any]:
    done = subprocess.run([sys.executable, __file__, *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(done.stderr)
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return answer


def ratio(processes: list[dict[str, list[float]]], over: str, of: str) -> Slowdown:
    """Of `of` to `over`, minus one."""
    return slowdown([(one[over], one[of]) for one in processes])


def shown(found: Slowdown) -> str:
    low, high = found.interval()
    return f"{1 + found.value:.3f} ({1 + low:.3f} to {1 + high:.3f})"


def percent(found: Slowdown) -> str:
    return f"{found.value * 100:+.1f} ±{found.half_width() * 100:.1f} %"


def report(asked: argparse.Namespace) -> None:
    place = describe(asked.device)
    print(
        f"{place['gpu'] or place['processor']}, {place['threads']} threads, torch {place['libraries']['torch']}, "
        f"transformers {place['libraries']['transformers']}; {asked.dtype}, {asked.processes} processes\n"
    )
    options = ["--device", asked.device, "--dtype", asked.dtype, "--seconds", str(asked.seconds)]
    options += ["--rounds", str(asked.rounds)]
    margin = EQUIVALENCE[asked.device]
    logs: list[float] = []
    for model in asked.models.split(","):
        began = time.time()
        children = [ask("--child", model, *options) for _ in range(asked.processes)]
        print(f"### {model}\n")
        print(
            "| training step | here, ms | here / PEFT | here / loralib | here / full | frozen forward / here |"
        )
        print("|---|---|---|---|---|---|")
        for size in children[0]["step"]:
            times = [child["step"][size] for child in children]
            to_peft = ratio(times, "peft", "here")
            logs.append(to_peft.log_ratio)
            here_ms = statistics.median(t for one in times for t in one["here"]) * 1e3
            cells = [to_peft, *(ratio(times, over, "here") for over in ("loralib", "full"))]
            cells.append(ratio(times, "here", "frozen forward"))
            reached = "" if to_peft.interval()[0] <= 0 else " NOT reached"
            print(
                f"| {size} | {here_ms:,.1f} | {shown(cells[0])}{reached} | "
                + " | ".join(map(shown, cells[1:]))
                + " |"
            )
        print("\n| forward pass over base | copy of base | here | PEFT | loralib | here / PEFT's overhead "
              "| here merged | PEFT merged | loralib merged |")  # fmt: skip
        print("|---|---|---|---|---|---|---|---|---|")
        for size in children[0]["latency"]:
            times = [child["latency"][size] for child in children]
            over = {name: ratio(times, "base", name) for name in times[0] if name != "base"}
            share = over["here"].value / over["peft"].value if over["peft"].value > 0 else math.nan
            merged = [
                percent(over[f"{name} merged"]) + (" ≈" if over[f"{name} merged"].is_none(margin) else "")
                for name in ("here", "peft", "loralib")
            ]
            each = [percent(over[name]) for name in ("copy of the base", "here", "peft", "loralib")]
            print(f"| {size} | " + " | ".join([*each, f"{share:.2f}", *merged]) + " |")
        largest = "x".join(map(str, SIZES[asked.device][model][-1]))
        print(
            f"\n| memory of a step at {largest}, MB | measured peak | in tensors, above the weights | of it activations |"
        )
        print("|---|---|---|---|")
        for name in ("here", "peft", "loralib", "full"):
            found = ask("--child-memory", model, name, *options)
            kinds = found["kinds"]
            above = sum(kinds[f"{k}_bytes"] for k in ("gradients", "optimizer", "activations", "other"))
            print(
                f"| {name} | {found['peak_bytes'] / 1e6:,.0f} | {above / 1e6:,.1f} | {kinds['activations_bytes'] / 1e6:,.1f} |"
            )
        print(f"\n{time.time() - began:.0f} s\n", flush=True)
    print(f"Training step here / PEFT, geometric mean over all sizes: {math.exp(statistics.fmean(logs)):.3f}")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--models", default=",".join(SIZES["cpu"]))
    parser.add_argument("--processes", type=int, default=3)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--dtype", default="float32", choices=list(DTYPES))
    parser.add_argument("--seconds", type=float, default=25, help="of training rounds a size and process")
    parser.add_argument("--rounds", type=int, default=40, help="of forward passes a size and process")
    parser.add_argument("--child")
    parser.add_argument("--child-memory", nargs=2)
    asked = parser.parse_args()
    if asked.child:
        print(json.dumps(child_times(asked)))
    elif asked.child_memory:
        print(json.dumps(child_memory(asked)))
    else:
        report(asked)


if __name__ == "__main__":
    main()
