"""What the PEFT library saves of an adapter, read without that library: a folder with a configuration and tensors."""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import UsageError
from ..folders import expanded
from . import lfs
from .digests import sha256_of
from .hub import Repository, snapshot

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class PeftExport:
    """What the PEFT library would save of an adapted model."""

    config: dict[str, Any]  # of `adapter_config.json`; module names as they are in this model
    tensors: dict[str, Tensor]  # of `adapter_model.safetensors`, by the library's names for this model
    quantisation: dict[str, Any] | None = None  # of its base: options of transformers' BitsAndBytesConfig


CONFIG, TENSORS = "adapter_config.json", "adapter_model.safetensors"
PREFIX = "base_model.model."  # of a tensor's name, before the module's


# Initialisations that write over the base's weights: the pair belongs to what they left there.
RESIDUAL = ("pissa", "olora", "corda", "lora_ga", "loftq")

# Options of a LoRA by which its update is not B A alone.
MORE_THAN_PAIRS = (
    "use_dora", "lora_bias", "layer_replication", "target_parameters", "use_qalora", "use_bdlora", "kasa_config",
    "monteclora_config", "arrow_config", "alora_invocation_tokens",
)  # fmt: skip


@dataclass(frozen=True)
class PeftFiles:
    """A folder that the PEFT library saved an adapter to."""

    folder: Path

    @property
    def config(self) -> dict[str, Any]:
        """Its configuration.

        Raises:
            UsageError: there is none.
        """
        try:
            found = json.loads((self.folder / CONFIG).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise UsageError(f"{str(self.folder)!r} holds no readable {CONFIG} ({error})") from error
        if not isinstance(found, dict):
            raise UsageError(f"{str(self.folder)!r} holds no readable {CONFIG} (it is no JSON object)")
        return found

    def fingerprint(self) -> str:
        """A hash of its files, so that results of another one are not taken for this one's."""
        digest = hashlib.sha256()
        for file in sorted(self.folder.glob("adapter_*")):
            if file.is_file():
                digest.update(file.name.encode() + sha256_of(file))
        return digest.hexdigest()[:16]

    def tensors(self) -> dict[str, Tensor]:
        """Its tensors by the library's names.

        Raises:
            UsageError: there are none in a safetensors file that reads.
        """
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        file = self.folder / TENSORS
        if not file.is_file():
            raise UsageError(
                f"{str(self.folder)!r} has no {TENSORS}; save the adapter again with a current PEFT"
            )
        if lfs.is_pointer(file):
            raise UsageError(
                f"{str(file)!r} is a git-lfs pointer and not the file itself; fetch it with `git lfs pull`"
            )
        try:
            return load_file(file)
        except (SafetensorError, OSError) as error:
            raise UsageError(f"{str(file)!r} can't be read ({error}); save the adapter again") from error


def adapter_folder(text: str) -> Path:
    """The folder of a saved adapter: a folder itself, or the snapshot of a hub id, `org/adapter` or `org/adapter@revision`.

    Raises:
        UsageError: it is neither.
    """
    folder = expanded(text, "adapter")
    if folder.is_dir():
        return folder
    if folder.is_absolute() or text.startswith((".", "~")) or "/" not in text:
        raise UsageError(
            f"adapter {text!r} is not there; give a folder with {CONFIG}, or a hub id, OWNER/NAME or OWNER/NAME@REVISION"
        )
    repository = Repository.from_text(text, "adapter")
    sizes = repository.sizes()
    if sizes is not None and CONFIG not in sizes:
        raise UsageError(
            f"{repository.said} has no {CONFIG} on the hub: it is no adapter of the PEFT library"
        )
    return snapshot(repository, lambda name: name in (CONFIG, TENSORS))[0]


def check_pairs(config: Mapping[str, Any], said: str) -> None:
    """Whether a configuration is that of a LoRA whose update is B A alone, over the model's own weights.

    Raises:
        UsageError: it is not.
    """
    if config.get("peft_type") != "LORA":
        raise UsageError(f"{said} is a {config.get('peft_type')} adapter, not a LoRA")
    start = str(config.get("init_lora_weights", True)).lower()
    if start.startswith(RESIDUAL):
        raise UsageError(
            f"{said} was trained over a base that {start} had changed; save it again with save_pretrained's "
            "path_initial_model_for_weight_conversion"
        )
    for option in MORE_THAN_PAIRS:
        if config.get(option):
            raise UsageError(f"{said} was made with {option}, so its update is not B A alone")


def rank_and_alpha(config: Mapping[str, Any], name: str) -> tuple[int, float]:
    """Of a module's pair, by its name in the checkpoint.

    Raises:
        UsageError: the configuration has none that can be read.
    """
    try:
        rank = int(of_pattern(config.get("rank_pattern"), name, config.get("r", 8)))
        return rank, float(of_pattern(config.get("alpha_pattern"), name, config.get("lora_alpha", 8)))
    except (ValueError, TypeError, AttributeError, re.error) as error:
        raise UsageError(
            f"{CONFIG} has no r and lora_alpha that can be read ({error}); save the adapter again"
        ) from error


def factor_of(config: Mapping[str, Any], rank: int, alpha: float) -> float:
    """What the product B A is multiplied by."""
    return alpha / (math.sqrt(rank) if config.get("use_rslora") else rank)


def of_pattern(patterns: Mapping[str, Any] | None, name: str, default: Any) -> Any:
    """What a `rank_pattern` or `alpha_pattern` says of a module: its keys are regular expressions for endings."""
    for pattern, value in (patterns or {}).items():
        if re.match(rf"(.*\.)?({pattern})$", name):
            return value
    return default
