"""Where a model's files are: a starter, a folder, a GGUF file, or the hub."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from ..data.files import sha256_of
from ..errors import UsageError
from .gguf import CONVERSION_VERSION, converted
from .hub import from_hub
from .source import Source
from .starters import STARTERS


def kind_of(source: Source) -> str:
    """What the checkpoint was made for: "causal" or "seq2seq" where it says that it writes text, else "sequence"."""
    config = json.loads((Path(source.location) / "config.json").read_text(encoding="utf-8"))
    made_for = (config.get("architectures") or [""])[0]
    if config.get("is_encoder_decoder") and made_for.endswith("ForConditionalGeneration"):
        return "seq2seq"
    return "causal" if made_for.endswith(("ForCausalLM", "LMHeadModel")) else "sequence"


def resolve_model(name: str) -> Source:
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
                f"model folder {name!r} has no config.json; give a folder saved by save_pretrained, or a GGUF file by its name"
            )
        weights = any(folder.glob("*.safetensors"))
        return Source(name, str(folder.resolve()), _folder_revision(folder), weights)
    if folder.suffix == ".gguf" and folder.is_file():
        revision = f"{CONVERSION_VERSION}-{sha256_of(folder).hex()[:16]}"
        return Source(name, str(converted(folder.resolve(), revision)), revision)
    if folder.is_absolute() or name.startswith(("./", "../", "~")) or folder.exists():
        raise UsageError(
            f"model {name!r} is not there; give a folder saved by save_pretrained, a GGUF file, or a hub id"
            if not folder.exists()
            else f"model {name!r} is not a folder; give one saved by save_pretrained, a GGUF file, or a hub id"
        )
    return from_hub(name)


def _folder_revision(folder: Path) -> str:
    """A hash of the config and of each weight file's name, size and both ends: enough to see that it changed."""
    endings = (".json", ".safetensors", ".gguf", ".txt", ".model")
    return _revision([file for file in sorted(folder.iterdir()) if file.suffix in endings])


def _revision(files: list[Path]) -> str:
    digest = hashlib.sha256()
    for file in files:
        size = file.stat().st_size
        with file.open("rb") as stream_in:
            start = stream_in.read(1 << 20)
            stream_in.seek(max(0, size - (1 << 20)))
            digest.update(f"{file.name}\0{size}\0".encode() + start + stream_in.read())
    return digest.hexdigest()[:16]
