"""A pretrained model with the head that a task asks for.

The head is what the checkpoint did not bring, and of a classifier all beyond the encoder. It is drawn from the run's seed alone, so that all
methods of one seed start from the same head. Weights are read from safetensors (or GGUF, converted once).
"""

from __future__ import annotations

import json
import math
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers
from safetensors import safe_open
from torch import nn
from transformers.models.auto import modeling_auto as tables

from ..errors import ModelError, NotSupported, PeftbenchError, UsageError
from ..objectives.base import Objective
from .broken import unloadable
from .new_layers import Fresh, fresh_of
from .output_layer import WHOLE, OutputLayer, output_layer_of
from .pooled import MeanPooledClassifier
from .quantised import format_of, plain_arguments
from .quiet import quiet
from .resolve import config_of, kind_of
from .source import Source
from .streams import stream
from .tokenizer import fit_together, tokenizer_of

HEADS = {
    "sequence": transformers.AutoModelForSequenceClassification,  # one or more numbers for a whole text
    "causal": transformers.AutoModelForCausalLM,
    "seq2seq": transformers.AutoModelForSeq2SeqLM,
}
NAMES = {"sequence": "classification head", "causal": "language model", "seq2seq": "encoder-decoder"}
ADAPTER_CONFIG = "adapter_config.json"


@dataclass
class Loaded:
    """A model ready to be adapted."""

    model: nn.Module
    tokenizer: Any
    head: dict[str, nn.Parameter]
    source: Source
    notices: tuple[str, ...] = ()  # what a reader should know of what was taken from the checkpoint
    output: OutputLayer = WHOLE  # of a model that writes, where an objective asks it to
    on_host: bool = False  # until a method is in it, which may not keep all of it


def load_model(
    source: Source,
    objective: Objective | None,
    seed: int,
    device: str = "cpu",
    attention: str | None = None,
    weights: torch.dtype = torch.float32,
) -> Loaded:
    """The model in one data type, its head in float32, on its device, in evaluation mode. On "meta" it has shapes and no weights.

    Without an objective it is what its checkpoint says: a language model with its own output layer, else an encoder
    with two classes. That serves for measurements of inference.

    Args:
        attention: the library's implementation of attention; None: its default for the model.

    Raises:
        NotSupported: the library has no such head for this model.
        ModelError: the files are not a model.
        UsageError: such attention does not go with it.
    """
    kind = head_for(source, objective)
    arguments: dict[str, Any] = {"dtype": weights, "trust_remote_code": False}
    if attention is not None:
        arguments["attn_implementation"] = attention
    if kind == "sequence":
        arguments["num_labels"] = 2 if objective is None else objective.outputs
    notices = list(_leftovers(source))
    try:
        with quiet(), stream(seed, "head"), _without_adapter(source) as location:
            if source.weights:
                model, info = HEADS[kind].from_pretrained(
                    location,
                    output_loading_info=True,
                    use_safetensors=True,
                    local_files_only=True,
                    ignore_mismatched_sizes=True,  # what does not match is looked at below
                    **plain_arguments(config_of(source)),
                    **({} if device == "cpu" else {"device_map": device}),  # straight to where it is needed
                    **arguments,
                )
                fresh = fresh_of(model, info, source.name)
            else:
                model = _drawn(source, HEADS[kind], arguments, device)
                fresh = Fresh(frozenset())
            head_names = fresh.names
            pooler_is_new = any("pooler" in name for name in head_names)
            if kind == "sequence" and (_is_mean_pooled(source) or pooler_is_new):
                encoder = model.base_model
                if getattr(encoder, "pooler", None) is not None:
                    encoder.pooler = None  # nobody reads it, so it would be counted and never trained
                model = MeanPooledClassifier(encoder, arguments["num_labels"])
                head_names = frozenset({"classifier.weight", "classifier.bias"})
            _refuse_padding_read(model, source)
        config: Any = model.config
        if hasattr(config, "use_cache"):
            config.use_cache = False  # nobody reads one in training and scoring; `generate` asks for its own
        if config.is_encoder_decoder and getattr(config, "decoder_start_token_id", None) is None:
            config.decoder_start_token_id = decoder_start(source)  # it writes as it was trained
        tokenizer = tokenizer_of(source)
        notices += [*fresh.notices, *fit_together(model, tokenizer, source.name)]
        if objective is not None:
            _check_tokenizer(objective, tokenizer, source)
    except PeftbenchError:
        raise
    except Exception as error:  # whatever a broken file makes the library raise
        reason = " ".join(str(error).split())[:300]
        if "Unrecognized configuration class" in reason:
            raise NotSupported(f"{source.name!r} has no {NAMES[kind]} in this library") from error
        if attention is not None and any(word in reason for word in ("attn_implementation", "ttention")):
            raise UsageError(
                f"--attention {attention!r} does not go with {source.name!r}: {reason}"
            ) from error
        raise unloadable(source, error) from error
    head = {name: p for name, p in model.named_parameters() if name in head_names}
    for parameter in head.values():
        parameter.data = parameter.data.float()  # it trains, so it is drawn in full
    _draw_head(model, head, seed)
    model.requires_grad_(False).eval()
    output = WHOLE
    if objective is not None and kind != "sequence" and device != "meta":
        output = output_layer_of(model)
        if output == WHOLE:
            notices.append(
                f"a {config.model_type} model's output layer can't be computed apart from its pass: the logits of all tokens are held at once"
            )
    return Loaded(model, tokenizer, head, source, tuple(notices), output)


def tokenizer_for(source: Source, objective: Objective) -> Any:
    """The tokenizer of a model that does what an objective asks, without the model.

    Raises:
        NotSupported: the model, or its tokenizer, can't do it.
        ModelError: the files hold none.
    """
    head_for(source, objective)
    tokenizer = tokenizer_of(source)
    _check_tokenizer(objective, tokenizer, source)
    return tokenizer


def _check_tokenizer(objective: Objective, tokenizer: Any, source: Source) -> None:
    """Raises NotSupported with the model's name."""
    try:
        objective.check_tokenizer(tokenizer)
    except NotSupported as error:
        raise NotSupported(f"{source.name!r} {error}") from error


def is_for_host(source: Source, weights: torch.dtype, device: str) -> bool:
    """Whether a model is read into the host's memory at first: one that would take more than half of what a GPU has free.

    A method that keeps codes in place of its weights may fit where they do not.
    """
    if device != "cuda" or not source.weights:
        return False
    free_bytes, _ = torch.cuda.mem_get_info()
    return 2 * _numbers(Path(source.location)) * weights.itemsize > free_bytes


def _numbers(folder: Path) -> int:
    """In the files of a model's weights, by their headers."""
    found = 0
    for file in folder.glob("*.safetensors"):
        with safe_open(file, "pt") as tensors:
            found += sum(math.prod(tensors.get_slice(name).get_shape()) for name in tensors.keys())  # noqa: SIM118
    return found


def _refuse_padding_read(model: Any, source: Source) -> None:
    """XLNet's kind, whose texts are padded on the left: its summary takes the last place, or the mean of all, padding and all.

    Raises:
        NotSupported: the model is of that kind.
    """
    kind = getattr(getattr(model, "sequence_summary", None), "summary_type", None)
    if kind in ("last", "mean"):
        raise NotSupported(
            f"{source.name!r} classifies by the {kind} of all positions, which are padded on the right here: every prediction would "
            "depend on its padding"
        )


def decoder_start(source: Source) -> int | None:
    """The token that an encoder-decoder's decoder begins with; None where there is a decoder alone.

    Raises:
        ModelError: the model's config does not say.
    """
    if kind_of(source) != "seq2seq":
        return None
    try:
        config = transformers.AutoConfig.from_pretrained(
            source.location, trust_remote_code=False, local_files_only=True
        )
    except Exception as error:  # whatever a broken file makes the library raise
        raise unloadable(source, error) from error
    start = getattr(config, "decoder_start_token_id", None)
    start = config.pad_token_id if start is None else start
    if not isinstance(start, int):
        raise ModelError(f"model {source.name!r}: its config.json has no decoder_start_token_id")
    return start


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
        if made_for == "sequence" and (reason := _why_not_known_to_write(config_of(source))) is not None:
            raise NotSupported(f"{source.name!r}: its config.json {reason}") from error
        raise NotSupported(f"{source.name!r} {error}") from error


def _why_not_known_to_write(config: dict[str, Any]) -> str | None:
    """Why a model that is not taken for one that writes may be one, or None."""
    again = "save it again from its own class, such as"
    if not (named := config.get("architectures")):
        return f"has no architectures, so nothing says whether it generates text; {again} LlamaForCausalLM"
    kind, made_for = str(config.get("model_type")), str(named[0])
    if made_for.endswith("ForConditionalGeneration"):
        return f"says {made_for}, which takes images or sound beside text and is not supported here; take a model of text alone"
    if (
        made_for == tables.MODEL_MAPPING_NAMES.get(kind)
        and kind not in tables.MODEL_FOR_MASKED_LM_MAPPING_NAMES
    ):
        whole = tables.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.get(kind)
        return f"says {made_for}, a decoder without its output layer; {again} {whole}" if whole else None
    return None


def _drawn(source: Source, head: Any, arguments: dict[str, Any], device: str) -> Any:
    """A model with random weights from a config."""
    of_model = {name: arguments[name] for name in ("dtype", "attn_implementation") if name in arguments}
    of_config = {name: value for name, value in arguments.items() if name not in of_model}
    config = transformers.AutoConfig.from_pretrained(source.location, local_files_only=True, **of_config)
    with torch.device("meta" if device == "meta" else "cpu"), stream(0, "weights"):
        return head.from_config(config, **of_model).to(device)


def _draw_head(model: nn.Module, head: dict[str, nn.Parameter], seed: int) -> None:
    """Weights normal with the model's initial spread, vectors as the library sets them (zeros, ones)."""
    spread = float(getattr(model.config, "initializer_range", None) or 0.02)
    for name, parameter in head.items():
        with stream(seed, "head", name), torch.no_grad():
            if parameter.ndim > 1:
                drawn = torch.empty(parameter.shape, device="meta" if parameter.is_meta else "cpu")
                parameter.copy_(drawn.normal_(0.0, spread))
            elif name.endswith("bias"):
                parameter.zero_()


def _is_mean_pooled(source: Source) -> bool:
    """Whether the checkpoint says that it is pooled by its mean."""
    file = Path(source.location) / "1_Pooling" / "config.json"
    if not file.is_file():
        return False
    said = json.loads(file.read_text(encoding="utf-8"))
    return isinstance(said, dict) and bool(said.get("pooling_mode_mean_tokens"))


@contextmanager
def _without_adapter(source: Source) -> Iterator[str]:
    """The folder of a model; of one with an adapter beside the weights, which the library would put on top of them, one without it."""
    folder = Path(source.location)
    if not (folder / ADAPTER_CONFIG).is_file():
        yield source.location
        return
    with tempfile.TemporaryDirectory() as plain:
        for file in folder.iterdir():
            if file.name != ADAPTER_CONFIG:
                (Path(plain) / file.name).symlink_to(file.resolve())
        yield plain


def _leftovers(source: Source) -> Iterator[str]:
    """What lies in a model's folder and is left out, or taken otherwise."""
    if source.weights and (found := format_of(config_of(source))) is not None:
        yield f"its weights are stored in {found} and read as the plain weights that they stand for"
    if (Path(source.location) / ADAPTER_CONFIG).is_file():
        yield "the adapter in its folder is left out: the weights are loaded alone"
