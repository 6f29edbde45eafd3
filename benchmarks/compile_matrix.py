"""Every method under `torch.compile`, on tiny models of nine families: the same outputs and gradients as eagerly?

    python benchmarks/compile_matrix.py [--backends aot_eager,inductor] [--families BERT,Llama] [--methods lora,prefix]

Prints a table: the number of graphs where outputs and gradients agree (1: the whole model in one), `differs`, `-` where the
method refuses the family or has nothing to train, or the first words of the error. Warnings and details go to stderr.
"""

from __future__ import annotations

import argparse
import copy
import sys
import warnings
from typing import Any

import torch
import transformers
from torch import Tensor
from torch._dynamo.testing import CompileCounterWithBackend

from peftbench.errors import NotSupported, PeftbenchError
from peftbench.inspection.methods_table import CONFIGS
from peftbench.models.starters import move_vectors
from peftbench.models.streams import init_streams
from peftbench.plugins import registry
from peftbench.plugins.build import build_method

# Of the largest value of a tensor: a compiler may sum float32 in another order.
TOLERANCE = 1e-4


def results(model: Any, parameters: list[Tensor], inputs: dict[str, Tensor]) -> list[Tensor]:
    """Logits, then the gradients of what trains."""
    for parameter in parameters:
        parameter.grad = None
    logits = model(**inputs).logits
    logits.square().sum().backward()
    return [logits.detach(), *(torch.zeros(()) if p.grad is None else p.grad.clone() for p in parameters)]


def outcome(method: str, base: Any, backend: str) -> str:
    """One cell of the table."""
    model = copy.deepcopy(base)
    try:
        with init_streams(0, method):
            adaptation = build_method(method)[0].inject(model)
    except NotSupported:
        return "-"
    model.requires_grad_(False)
    parameters = list(adaptation.params.values())
    if not parameters:
        return "-"
    with torch.no_grad():
        for parameter in parameters:
            parameter.requires_grad_(True).add_(torch.randn_like(parameter), alpha=0.05)
    tokens = torch.randint(5, 60, (2, 9), generator=torch.Generator().manual_seed(0))
    tokens[:, -1] = 1  # T5's classifier reads the state of its end token
    inputs = {"input_ids": tokens, "attention_mask": torch.ones_like(tokens)}
    want = results(model, parameters, inputs)
    torch._dynamo.reset()
    counter = CompileCounterWithBackend(backend)
    try:
        got = results(torch.compile(model, backend=counter), parameters, inputs)
    except Exception as error:  # noqa: BLE001  whatever the compiler says is what this is about
        print(f"{method}, {backend}: {error}", file=sys.stderr)
        return f"{type(error).__name__}: {' '.join(str(error).split())[:60]}"
    finally:
        torch._dynamo.reset()
    # A key's bias shifts all of a query's scores alike: its gradient is zero, and what is computed for it is rounding.
    floor = TOLERANCE * max(yours.abs().max() for yours in want)
    for mine, yours in zip(got, want, strict=True):
        off = (mine - yours).abs().max() / yours.abs().max().clamp(min=float(floor))
        if not off <= TOLERANCE:
            print(f"{method}, {backend}: off by {off:.1e} of the largest value", file=sys.stderr)
            return "differs"
    return str(counter.frame_count)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--backends", default="aot_eager,inductor")
    parser.add_argument("--families", default=",".join(CONFIGS))
    parser.add_argument("--methods")
    asked = parser.parse_args()
    warnings.simplefilter("ignore")
    transformers.utils.logging.set_verbosity_error()
    names = asked.methods.split(",") if asked.methods else sorted(registry.load("method"))
    families = asked.families.split(",")
    for backend in asked.backends.split(","):
        print(
            f"\n{backend}, torch {torch.__version__}, transformers {transformers.__version__}, eager against compiled\n"
        )
        print("| method | " + " | ".join(families) + " |\n|---" + "|---" * len(families) + "|")
        for name in names:
            try:
                build_method(name)
            except PeftbenchError:  # a bridge before it is told to what
                continue
            cells = []
            for family in families:
                torch.manual_seed(0)
                config = CONFIGS[family]()
                if config.is_encoder_decoder:
                    config.decoder_start_token_id = 0
                base = transformers.AutoModelForSequenceClassification.from_config(config).eval()
                move_vectors(base)
                cells.append(outcome(name, base, backend))
            print(f"| {name} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
