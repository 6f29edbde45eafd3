"""A pretrained model with the head that a task asks for.

The head is every parameter that the checkpoint did not bring. It is drawn from the run's seed alone, so that all
methods of one seed start from the same head. Weights are read from safetensors (or GGUF, converted once).
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import nn

from ..errors import NotSupported, UsageError
from ..objectives.base import Objective
from .pooled import MeanPooledClassifier
from .quiet import quiet
from .resolve import kind_of
from .source import Source
from .starters import byte_tokenizer
from .streams import stream

HEADS = {
    "sequence": transformers.AutoModelForSequenceClassification,  # one or more numbers for a whole text
    "causal": transformers.AutoModelForCausalLM,
    "seq2seq": transformers.AutoModelForSeq2SeqLM,
}


@dataclass
class Loaded:
    """A model ready to be adapted."""

    model: nn.Module
    tokenizer: Any
    head: dict[str, nn.Parameter]
    source: Source


def load_model(
    source: Source,
    objective: Objective | None,
    seed: int,
    device: str = "cpu",
    attention: str | None = None,
) -> Loaded:
    """The model with its head, in float32, in evaluation mode. With `device="meta"` it has shapes and no weights.

    Without an objective it is what its checkpoint says: a language model with its own output layer, else an encoder
    with two classes. That serves for measurements of inference.

    Args:
        attention: the library's implementation of attention; None: its default for the model.

    Raises:
        NotSupported: the library has no such head for this model.
        UsageError: the files are not a model.
    """
    kind = head_for(source, objective)
    arguments: dict[str, Any] = {"dtype": torch.float32}
    if attention is not None:
        arguments["attn_implementation"] = attention
    if kind == "sequence":
        arguments["num_labels"] = 2 if objective is None else objective.outputs
    missing: set[str] = set()
    try:
        with quiet(), stream(seed, "head"):
            if source.weights:
                model, info = HEADS[kind].from_pretrained(
                    source.location,
                    output_loading_info=True,
                    use_safetensors=True,
                    **({"device_map": "meta"} if device == "meta" else {}),
                    **arguments,
                )
                missing = set(info["missing_keys"])
            else:
                model = _drawn(source, HEADS[kind], arguments, device)
            pooler_is_new = any("pooler" in name for name in missing)
            if kind == "sequence" and (_is_mean_pooled(source.location) or pooler_is_new):
                encoder = model.base_model
                if getattr(encoder, "pooler", None) is not None:
                    encoder.pooler = None  # nobody reads it, so it would be counted and never trained
                model = MeanPooledClassifier(encoder, arguments["num_labels"])
                missing = {"classifier.weight", "classifier.bias"}
    except (OSError, ValueError, ImportError) as error:
        reason = " ".join(str(error).split())[:300]
        if "Unrecognized configuration class" in reason:
            raise NotSupported(f"{source.name!r} has no classification head in this library") from error
        if attention is not None and any(word in reason for word in ("attn_implementation", "ttention")):
            raise UsageError(
                f"--attention {attention!r} does not go with {source.name!r}: {reason}"
            ) from error
        raise UsageError(f"model {source.name!r} does not load: {reason}") from error
    # A config alone serves for costs, and any tokens for them.
    tokenizer = (
        transformers.AutoTokenizer.from_pretrained(source.location) if source.weights else byte_tokenizer()
    )
    _set_padding(model, tokenizer)
    head = {name: p for name, p in model.named_parameters() if name in missing}
    _draw_head(model, head, seed)
    model.requires_grad_(False)
    return Loaded(model.eval(), tokenizer, head, source)


def decoder_start(source: Source) -> int | None:
    """The token that an encoder-decoder's decoder begins with; None where there is a decoder alone."""
    if kind_of(source) != "seq2seq":
        return None
    config = transformers.AutoConfig.from_pretrained(source.location)
    start = getattr(config, "decoder_start_token_id", None)
    return int(config.pad_token_id if start is None else start)


def head_for(source: Source, objective: Objective | None) -> str:
    """Which of `HEADS` a task asks of a model.

    Raises:
        NotSupported: the model can't do what the task asks for.
    """
    made_for = kind_of(source)
    if objective is None:
        return made_for if made_for == "causal" else "sequence"
    try:
        return objective.head_for(made_for)
    except NotSupported as error:
        raise NotSupported(f"{source.name!r} {error}") from error


def _drawn(source: Source, head: Any, arguments: dict[str, Any], device: str) -> Any:
    """A model with random weights from a config."""
    of_model = {name: value for name, value in arguments.items() if name in ("dtype", "attn_implementation")}
    of_config = {name: value for name, value in arguments.items() if name not in of_model}
    config = transformers.AutoConfig.from_pretrained(source.location, **of_config)
    with torch.device(device), stream(0, "weights"):
        return head.from_config(config, **of_model)


def _draw_head(model: nn.Module, head: dict[str, nn.Parameter], seed: int) -> None:
    """Weights normal with the model's initial spread, vectors as the library sets them (zeros, ones)."""
    spread = float(getattr(model.config, "initializer_range", None) or 0.02)
    for name, parameter in head.items():
        with stream(seed, "head", name), torch.no_grad():
            if parameter.ndim > 1:
                parameter.normal_(0.0, spread)
            elif name.endswith("bias"):
                parameter.zero_()


def _is_mean_pooled(location: str) -> bool:
    """Whether the checkpoint says that it is pooled by its mean."""
    file = Path(location) / "1_Pooling" / "config.json"
    if not file.is_file():
        return False
    return bool(json.loads(file.read_text(encoding="utf-8")).get("pooling_mode_mean_tokens"))


def _set_padding(model: Any, tokenizer: Any) -> None:
    """Give a decoder that has no padding token its end token for it, in the tokenizer and in the config."""
    if tokenizer.pad_token_id is None:
        if tokenizer.eos_token_id is None:
            raise NotSupported("the tokenizer has neither a padding nor an end token")
        tokenizer.pad_token = tokenizer.eos_token
    tokenizer.padding_side = "right"
    if model.config.pad_token_id is None:
        model.config.pad_token_id = tokenizer.pad_token_id
