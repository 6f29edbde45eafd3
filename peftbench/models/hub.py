"""A model of the Hugging Face hub: its snapshot at one commit, whole."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from ..data import hub_client
from ..data.hub import Repository, snapshot
from ..data.peft_files import CONFIG as ADAPTER
from ..data.peft_files import PeftFiles
from ..errors import UsageError, unknown
from .identity import ENDINGS, FOLDERS, revision_of
from .quantised import check_format
from .source import Source
from .starters import STARTERS

# Of weights transformers reads these alone.
WEIGHTS = re.compile(r"(model|adapter_model)(-\d+-of-\d+)?\.safetensors")
CARD = "README.md"


def is_wanted(name: str) -> bool:
    """Whether a file of a repository belongs to its model."""
    folder, _, file = name.rpartition("/")
    decides = file.endswith(ENDINGS) and (folder in FOLDERS or not folder)
    return name == CARD or (decides and (not file.endswith(".safetensors") or bool(WEIGHTS.fullmatch(file))))


def from_hub(name: str) -> Source:
    """The model that a hub id names, `org/name` or `org/name@revision`. Its revision is the commit, and where nobody here knows all of its
    files also a hash of those that are here.

    Raises:
        UsageError: it is not there, is no model with safetensors weights, or the hub does not serve it.
    """
    try:
        repository = Repository.from_text(name)
    except UsageError as error:
        if "/" in name:
            raise UsageError(f"model {name!r}: no folder is called so, and {error}") from error
        raise unknown("model", name, STARTERS, "or a local folder, or a hub id") from error
    if "/" not in repository.name and not repository.is_known and not hub_client.may_ask():
        raise unknown("model", name, STARTERS, "or a local folder, or a hub id; the hub is out of reach")
    try:
        sizes = repository.sizes()
    except UsageError as error:
        if "/" in repository.name:
            raise
        said = str(error).removeprefix(f"model {name!r}: ")
        raise unknown("model", name, STARTERS, f"or a local folder, or a hub id; {said}") from error
    if sizes is not None:
        _check_files(name, repository, set(sizes))
        small, _ = snapshot(repository, lambda file: file in ("config.json", CARD))
        check_format(name, small)  # before anything large is downloaded
    folder, whole = snapshot(repository, is_wanted)
    if whole:
        return Source(name, str(folder), folder.name)
    _check_parts(name, folder)  # and what it lacks that nobody can know of would be another model
    return Source(name, str(folder), f"{folder.name}-{revision_of(folder)}")


def _check_files(name: str, repository: Repository, files: set[str]) -> None:
    """Whether a repository is a model at all, before anything large is downloaded."""
    if "config.json" not in files and ADAPTER in files:
        folder, _ = snapshot(repository, lambda file: file == ADAPTER)
        base = PeftFiles(folder).config.get("base_model_name_or_path")
        raise UsageError(
            f"model {name!r} is an adapter of {base or 'a model that it does not name'}; go on from it with --model "
            f"{base or 'MODEL'} --methods lora:start={name}"
        )
    if "config.json" not in files:
        raise UsageError(f"model {name!r} has no config.json on the hub: it is no model of transformers")
    if not any(WEIGHTS.fullmatch(file) for file in files):
        others = sorted(file for file in files if file.endswith((".bin", ".h5", ".msgpack", ".gguf", ".pth")))
        has = f"{others[0]} alone" if others else "no weights"
        raise UsageError(
            f"model {name!r} has {has} on the hub, and safetensors are what is read here; see whether another revision has "
            "them (name@revision), or save it again with save_pretrained"
        )


def _check_parts(name: str, folder: Path) -> None:
    """Whether a snapshot of which nobody here knows all files has at least those that it speaks of itself."""
    lacking = [] if (folder / "config.json").is_file() else ["config.json"]
    index = folder / "model.safetensors.index.json"
    if index.is_file():
        found = _read(name, index)
        shards = found.get("weight_map") if isinstance(found, dict) else None
        named = {str(shard) for shard in shards.values()} if isinstance(shards, dict) else set()
        lacking += sorted(shard for shard in named if not (folder / shard).is_file())
    elif not any(folder.glob("*.safetensors")):
        lacking.append("model.safetensors")
    if (folder / "modules.json").is_file():
        parts = [part for part in _read(name, folder / "modules.json") if isinstance(part, dict)]
        places = [part.get("path", "") for part in parts if "Pooling" in part.get("type", "")]
        lacking += [
            f"{place}/config.json" for place in places if not (folder / place / "config.json").is_file()
        ]
    if lacking:
        raise UsageError(
            f"model {name!r} at {folder.name[:12]} is here without {', '.join(lacking[:3])}, and the hub can't be asked for "
            "them: connect once"
        )


def _read(name: str, file: Path) -> Any:
    try:
        return json.loads(file.read_bytes())
    except ValueError as error:
        raise UsageError(
            f"model {name!r} does not load: {file.name} can't be read ({error}); fetch or save it again"
        ) from error
