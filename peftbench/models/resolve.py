"""Where a model's files are: a starter, a folder, a GGUF file, or the hub."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from transformers.models.auto.modeling_auto import MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES as SEQ2SEQ
from transformers.models.auto.modeling_auto import MODEL_MAPPING_NAMES as BASES

from ..data import lfs
from ..data.digests import sha256_of
from ..errors import ModelError, UsageError
from .gguf import CONVERSION_VERSION, converted
from .hub import from_hub
from .identity import deciding_files, revision_of
from .quantised import check_format
from .source import Source
from .starters import STARTERS

# Weights in formats that are never read.
OTHER_WEIGHTS = ("pytorch_model*.bin", "tf_model*.h5", "flax_model*.msgpack", "consolidated*.pth")


def config_of(source: Source) -> dict[str, Any]:
    """What the model's config.json says.

    Raises:
        ModelError: it is no JSON object.
    """
    try:
        found = json.loads((Path(source.location) / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(f"model {source.name!r} does not load: config.json is no JSON ({error})") from error
    if not isinstance(found, dict):
        raise ModelError(f"model {source.name!r} does not load: config.json is no JSON object")
    return found


def kind_of(source: Source) -> str:
    """What the checkpoint was made for: "causal" or "seq2seq" where it says that it writes text, else "sequence".

    Raises:
        ModelError: its config.json is no JSON object.
    """
    config = config_of(source)
    architectures = config.get("architectures")
    made_for = str(architectures[0]) if isinstance(architectures, list) and architectures else ""
    if config.get("is_encoder_decoder") and _writes(made_for, config.get("model_type")):
        return "seq2seq"
    return "causal" if made_for.endswith(("ForCausalLM", "LMHeadModel")) else "sequence"


def _writes(made_for: str, kind: object) -> bool:
    """Whether a class of encoder-decoders writes: BART's checkpoints name the model below an output layer that is its embedding."""
    whole, below = SEQ2SEQ.get(str(kind)), BASES.get(str(kind))
    return made_for.endswith("ForConditionalGeneration") or (whole is not None and made_for in (whole, below))


def resolve_model(name: str) -> Source:
    """Find a model by starter name, local folder or hub id.

    Raises:
        ModelError: nothing answers to the name; the starters are listed. Or its weights are in a format that is not read here.
    """
    source = _found(name)
    if source.weights:
        check_format(name, Path(source.location))
    return source


def _found(name: str) -> Source:
    if name in STARTERS:
        return STARTERS[name](name)
    try:
        if (local := _local(name)) is not None:
            return local
    except (OSError, RuntimeError) as error:  # no such user's home, too long a name, a folder that is closed
        said = getattr(error, "strerror", None) or error
        raise ModelError(f"model {name[:80]!r} can't be looked for: {said}") from error
    try:
        return from_hub(name)
    except UsageError as error:
        raise ModelError(str(error)) from error


def _local(name: str) -> Source | None:
    """The folder or file of that name; None where it can only be a hub id."""
    folder = Path(name).expanduser()
    if folder.is_dir():
        weights = has_weights(folder, name)
        return Source(name, str(folder.resolve()), revision_of(folder), weights)
    if folder.suffix == ".gguf" and folder.is_file():
        revision = f"{CONVERSION_VERSION}-{sha256_of(folder).hex()[:16]}"
        return Source(name, str(converted(folder.resolve(), revision)), revision)
    if folder.is_absolute() or name.startswith(("./", "../", "~")) or folder.exists():
        raise ModelError(
            f"model {name!r} is not there; give a folder saved by save_pretrained, a GGUF file, or a hub id"
            if not folder.exists()
            else f"model {name!r} is not a folder; give one saved by save_pretrained, a GGUF file, or a hub id"
        )
    return None


def has_weights(folder: Path, name: str) -> bool:
    """Whether a model's folder has weights; a config alone serves for measurements of costs.

    Raises:
        ModelError: it has no config, weights in another format alone, or what git-lfs left in the place of a file.
    """
    weights = any(not file.name.startswith("adapter_") for file in folder.glob("*.safetensors"))
    if not weights and (folder / "adapter_config.json").is_file():
        raise ModelError(
            f"model {name!r} is an adapter without its base; give the base as --model, and this as --methods lora:start={name}"
        )
    if not (folder / "config.json").is_file():
        raise ModelError(
            f"model folder {name!r} has no config.json; give a folder saved by save_pretrained, or a GGUF file by its name"
        )
    for file in deciding_files(folder):
        if lfs.is_pointer(file):
            raise ModelError(
                f"model {name!r} does not load: {file.relative_to(folder)} is a git-lfs pointer and not the file itself; fetch "
                "it with `git lfs pull`"
            )
    others = sorted(file.name for ending in OTHER_WEIGHTS for file in folder.glob(ending))
    if others and not weights:
        raise ModelError(
            f"model {name!r} has {others[0]} alone, which is never read here; save it again as safetensors: save_pretrained "
            "of a current transformers does"
        )
    return weights
