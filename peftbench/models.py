"""Pretrained models by name, path or hub id, with the head that a task asks for.

The head is every parameter that the checkpoint did not bring. It is drawn from the run's seed alone, so that all
methods of one seed start from the same head. Weights are read from safetensors (or GGUF, converted once).
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import socket
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import huggingface_hub
import torch
import transformers
from torch import Tensor, nn
from transformers.modeling_outputs import SequenceClassifierOutput

from .assets import cache_folder, fetch
from .errors import NotSupported, UsageError, unknown
from .objectives import Objective
from .streams import stream

HEADS = {
    "classification": transformers.AutoModelForSequenceClassification,
    "causal": transformers.AutoModelForCausalLM,
}
TINY_VERSION = 2  # raise it when the tiny models change


@dataclass(frozen=True)
class Source:
    """Where a model's files are."""

    name: str  # as asked for
    location: str  # a folder
    revision: str  # changes when the weights do
    weights: bool = (
        True  # False: a config alone, from which random weights are drawn for measurements of costs
    )


@dataclass
class Loaded:
    """A model ready to be adapted."""

    model: nn.Module
    tokenizer: Any
    head: dict[str, nn.Parameter]
    source: Source


class MeanPooledClassifier(nn.Module):
    """An encoder, a mean over its real tokens, dropout and one linear layer.

    For checkpoints that say they are pooled by their mean (sentence-transformers' `1_Pooling`), and for those that
    bring no pooler: a freshly drawn one needs longer to train than a small budget has.
    """

    def __init__(self, backbone: Any, outputs: int) -> None:
        super().__init__()
        self.backbone = backbone
        self.config: Any = backbone.config
        width = self.config.hidden_size
        self.dropout = nn.Dropout(getattr(self.config, "hidden_dropout_prob", 0.0))
        self.classifier = nn.Linear(width, outputs, device=next(backbone.parameters()).device)

    @property
    def base_model(self) -> nn.Module:
        """The encoder, by the name that the library's own models give it."""
        backbone: nn.Module = self.backbone
        return backbone

    def pooled(
        self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor | None = None
    ) -> Tensor:
        """The mean of the last hidden states over real tokens.

        Args:
            input_ids: (batch, length).
            attention_mask: (batch, length), 1 for real tokens.

        Returns:
            (batch, width)
        """
        extra = {} if token_type_ids is None else {"token_type_ids": token_type_ids}
        hidden = self.backbone(input_ids=input_ids, attention_mask=attention_mask, **extra).last_hidden_state
        mask = attention_mask[..., None].to(hidden.dtype)
        mean: Tensor = (hidden * mask).sum(1) / mask.sum(1)
        return mean

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor | None = None
    ) -> SequenceClassifierOutput:
        """Logits (batch, outputs) of tokens (batch, length)."""
        pooled = self.pooled(input_ids, attention_mask, token_type_ids)
        return SequenceClassifierOutput(logits=self.classifier(self.dropout(pooled)))


def load(source: Source, objective: Objective | None, seed: int, device: str = "cpu") -> Loaded:
    """The model with its head, in float32, in evaluation mode. With `device="meta"` it has shapes and no weights.

    Without an objective it is what its checkpoint says: a language model with its own output layer, else an encoder
    with two classes. That serves for measurements of inference.

    Raises:
        NotSupported: the library has no such head for this model.
        UsageError: the files are not a model.
    """
    kind = objective.kind if objective is not None else kind_of(source)
    if kind not in HEADS:
        raise NotSupported(f"no head for tasks of kind {kind!r} yet")
    arguments: dict[str, Any] = {"dtype": torch.float32}
    if kind == "classification":
        arguments["num_labels"] = 2 if objective is None else objective.outputs
    missing: set[str] = set()
    try:
        with _quiet(), stream(seed, "head"):
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
            if kind == "classification" and (_is_mean_pooled(source.location) or pooler_is_new):
                encoder = model.base_model
                if getattr(encoder, "pooler", None) is not None:
                    encoder.pooler = None  # nobody reads it, so it would be counted and never trained
                model = MeanPooledClassifier(encoder, arguments["num_labels"])
                missing = {"classifier.weight", "classifier.bias"}
    except (OSError, ValueError) as error:
        reason = " ".join(str(error).split())[:300]
        if "Unrecognized configuration class" in reason:
            raise NotSupported(f"{source.name!r} has no classification head in this library") from error
        raise UsageError(f"model {source.name!r} does not load: {reason}") from error
    tokenizer = None
    if source.weights:
        tokenizer = transformers.AutoTokenizer.from_pretrained(source.location)
        _set_padding(model, tokenizer)
    head = {name: p for name, p in model.named_parameters() if name in missing}
    _draw_head(model, head, seed)
    model.requires_grad_(False)
    return Loaded(model.eval(), tokenizer, head, source)


def kind_of(source: Source) -> str:
    """What the checkpoint was made for: "causal" where it says that it is a language model, else "classification"."""
    config = json.loads((Path(source.location) / "config.json").read_text(encoding="utf-8"))
    made_for = config.get("architectures") or [""]
    return "causal" if made_for[0].endswith(("ForCausalLM", "LMHeadModel")) else "classification"


def _drawn(source: Source, head: Any, arguments: dict[str, Any], device: str) -> Any:
    """A model with random weights from a config."""
    dtype = arguments.pop("dtype")
    config = transformers.AutoConfig.from_pretrained(source.location, **arguments)
    arguments["dtype"] = dtype
    with torch.device(device), stream(0, "weights"):
        return head.from_config(config, dtype=dtype)


def resolve(name: str) -> Source:
    """Find a model by starter name, local folder or hub id.

    Raises:
        UsageError: nothing answers to the name; the starters are listed.
    """
    if name in STARTERS:
        return STARTERS[name](name)
    folder = Path(name).expanduser()
    if folder.is_dir():
        if not (folder / "config.json").is_file():
            raise UsageError(
                f"model folder {name!r} has no config.json; give a folder saved by save_pretrained"
            )
        weights = any(folder.glob("*.safetensors"))
        return Source(name, str(folder.resolve()), _folder_revision(folder), weights)
    if folder.is_absolute() or name.startswith(("./", "../", "~")) or folder.exists():
        raise UsageError(
            f"model {name!r} is not a folder; give a folder saved by save_pretrained, or a hub id"
        )
    folder = _from_hub(name)
    return Source(name, str(folder), folder.name)


def _from_hub(name: str) -> Path:
    """The local snapshot of a hub model: the one that is there, else downloaded. Its folder's name is the commit.

    Raises:
        UsageError: it is not there and the hub does not serve it.
    """
    wanted = ["*.json", "*.safetensors", "*.txt", "*.model", "1_Pooling/config.json"]
    reason = ""
    for local in (True, False):
        if not local and not _hub_in_reach():
            reason = "the hub is out of reach"
            break
        try:
            folder = Path(
                huggingface_hub.snapshot_download(name, allow_patterns=wanted, local_files_only=local)
            )
        except (OSError, ValueError) as error:  # the client's errors are of these, besides its reasons
            reason = f"the hub did not serve it: {type(error).__name__}"
            continue
        if any(folder.glob("*.safetensors")):
            return folder
        reason = "it has no safetensors weights"
    raise unknown("model", name, STARTERS, f"or a local folder, or a hub id; {reason}")


def _hub_in_reach() -> bool:
    """Whether the hub's host answers at all: the client itself would try for half a minute."""
    if any(os.environ.get(name) for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy")):
        return True  # only the client knows the way
    address = urlsplit(huggingface_hub.constants.ENDPOINT)
    try:
        socket.create_connection((address.hostname or "", address.port or 443), timeout=5).close()
    except OSError:
        return False
    return True


def _minilm(name: str) -> Source:
    folder = fetch(name)
    return Source(name, str(folder), "b9a0018dff09")


def _smollm2(name: str) -> Source:
    """Converted once from the quantised file to safetensors; training never reads the GGUF."""
    home = cache_folder() / "models" / name

    def make(folder: Path) -> None:
        gguf = next(fetch(name).glob("*.gguf"))
        options: dict[str, Any] = {"gguf_file": gguf.name, "dtype": torch.float32}
        if hasattr(
            transformers, "GgufConfig"
        ):  # newer releases keep the weights packed unless told otherwise
            options["quantization_config"] = transformers.GgufConfig(dequantize=True)
        with _quiet():
            packed = transformers.AutoModelForCausalLM.from_pretrained(str(gguf.parent), **options)
            tokenizer = transformers.AutoTokenizer.from_pretrained(str(gguf.parent), gguf_file=gguf.name)
            config = packed.config
            if hasattr(config, "quantization_config"):
                del config.quantization_config
            # A model that was loaded from GGUF refuses to be saved; a plain one with its numbers does not.
            dense = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.float32)
        dense.load_state_dict(packed.state_dict())
        dense.save_pretrained(folder)
        tokenizer.save_pretrained(folder)

    _make_once(home, make)
    return Source(name, str(home), "bcc81830d10c")


@torch.no_grad()
def move_vectors(model: nn.Module) -> None:
    """Biases off zero and gains off one, as in a trained model: a formula that forgets them then shows."""
    for parameter in model.parameters():
        if parameter.ndim == 1:
            parameter.add_(torch.randn_like(parameter), alpha=0.1)


def _tiny(name: str) -> Source:
    """Random weights from a config and a tokenizer of single bytes: a real checkpoint without a download."""
    home = cache_folder() / "models" / f"{name}-{TINY_VERSION}"

    def make(folder: Path) -> None:
        tokenizer = byte_tokenizer()
        sizes: dict[str, Any] = {
            "vocab_size": len(tokenizer),
            "hidden_size": 32,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "intermediate_size": 64,
            "pad_token_id": tokenizer.pad_token_id,
        }
        with _quiet(), stream(0, name):
            model: Any
            if name == "tiny-encoder":
                model = transformers.BertModel(transformers.BertConfig(**sizes), add_pooling_layer=False)
            elif name == "tiny-fused":
                fused = transformers.GPT2Config(
                    vocab_size=len(tokenizer),
                    n_embd=32,
                    n_layer=2,
                    n_head=4,
                    pad_token_id=tokenizer.pad_token_id,
                    bos_token_id=tokenizer.cls_token_id,
                    eos_token_id=tokenizer.sep_token_id,
                )
                model = transformers.GPT2LMHeadModel(fused)
            else:
                config = transformers.LlamaConfig(**sizes, num_key_value_heads=2)
                model = transformers.LlamaForCausalLM(config)
            move_vectors(model)
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)

    _make_once(home, make)
    return Source(name, str(home), f"tiny-{TINY_VERSION}")


def _random_gpt2_medium(name: str) -> Source:
    """The config alone of Hu et al.'s latency model: nothing to download, random weights, for costs only."""
    home = cache_folder() / "models" / name

    def make(folder: Path) -> None:
        config = transformers.GPT2Config(
            n_embd=1024, n_layer=24, n_head=16, architectures=["GPT2LMHeadModel"], pad_token_id=50256
        )
        config.save_pretrained(folder)

    _make_once(home, make)
    return Source(name, str(home), "random-1", weights=False)


STARTERS: dict[str, Callable[[str], Source]] = {
    "minilm-l6": _minilm,
    "smollm2-135m-instruct-q4": _smollm2,
    "tiny-encoder": _tiny,
    "tiny-decoder": _tiny,
    "tiny-fused": _tiny,
    "random-gpt2-medium": _random_gpt2_medium,
}


def byte_tokenizer() -> transformers.PreTrainedTokenizerFast:
    """A tokenizer with a token for each byte and five special ones, built in code."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors

    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: index for index, token in enumerate([*special, *alphabet])}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[], unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", vocabulary["[CLS]"]), ("[SEP]", vocabulary["[SEP]"])],
    )
    names = dict(
        zip(("pad_token", "unk_token", "cls_token", "sep_token", "mask_token"), special, strict=True)
    )
    return transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, **names)


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


def _folder_revision(folder: Path) -> str:
    """A hash of the config and of each weight file's name, size and both ends: enough to see that it changed."""
    digest = hashlib.sha256()
    for file in sorted(folder.iterdir()):
        if file.suffix in (".json", ".safetensors", ".gguf", ".txt", ".model"):
            size = file.stat().st_size
            with file.open("rb") as stream_in:
                start = stream_in.read(1 << 20)
                stream_in.seek(max(0, size - (1 << 20)))
                digest.update(f"{file.name}\0{size}\0".encode() + start + stream_in.read())
    return digest.hexdigest()[:16]


def _make_once(home: Path, make: Callable[[Path], None]) -> None:
    """Let `make` fill a folder aside and rename it to `home`, unless it is there."""
    if home.is_dir():
        return
    aside = home.with_name(f".{home.name}-{os.getpid()}")
    aside.mkdir(parents=True, exist_ok=True)
    try:
        make(aside)
        try:
            aside.rename(home)
        except OSError:  # another program was first
            if not home.is_dir():
                raise
    finally:
        shutil.rmtree(aside, ignore_errors=True)


class _quiet:
    """Silence the library's load report and progress bars: what it says is in the loading info."""

    def __enter__(self) -> None:
        logging = transformers.utils.logging
        self.level = logging.get_verbosity()
        logging.set_verbosity_error()
        logging.disable_progress_bar()

    def __exit__(self, *failure: object) -> None:
        transformers.utils.logging.set_verbosity(self.level)
