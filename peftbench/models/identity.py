"""What a model is: every file that decides what is built from its folder, in full."""

from __future__ import annotations

import hashlib
from pathlib import Path

from ..data.digests import sha256_of

# Weights, configs (of generation and adapters too), tokenizers, chat templates. Weights in other formats are never read.
ENDINGS = (".json", ".safetensors", ".txt", ".model", ".jinja", ".tiktoken", ".bpe", ".vocab")
FOLDERS = ("1_Pooling", "additional_chat_templates")  # below the model's own that are read as well


def deciding_files(folder: Path) -> list[Path]:
    """The files of a model's folder that decide what is built, in a fixed order."""
    places = [folder, *(folder / name for name in FOLDERS)]
    found = [file for place in places if place.is_dir() for file in place.iterdir()]
    return sorted(file for file in found if file.suffix in ENDINGS and file.is_file())


def revision_of(folder: Path) -> str:
    """A hash of the deciding files' names and contents. Large files are read once, and again when they changed."""
    digest = hashlib.sha256()
    for file in deciding_files(folder):
        digest.update(file.relative_to(folder).as_posix().encode() + b"\0" + sha256_of(file))
    return digest.hexdigest()[:16]
