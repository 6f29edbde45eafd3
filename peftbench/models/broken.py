"""Why a model's files do not load, in one line that names the file."""

from __future__ import annotations

import json
from pathlib import Path

from safetensors import SafetensorError, safe_open

from ..errors import ModelError
from .identity import deciding_files
from .source import Source


def unloadable(source: Source, error: Exception, of: str = "") -> ModelError:
    """The error to raise for what the library raised while it loaded a model.

    Args:
        of: what it was reading, where that is known.
    """
    said = " ".join(f"{of}{type(error).__name__}: {error}".split())[:300]
    if "trust_remote_code" in said or "custom code" in said:
        said = (
            "it needs code of its own, which is never run here; give a model that transformers itself knows"
        )
    elif (broken := _broken_file(Path(source.location))) is not None:
        said = broken
    return ModelError(f"model {source.name!r} does not load: {said}")


def _broken_file(folder: Path) -> str | None:
    """The first file that is not what its name says, and what is wrong with it."""
    for file in deciding_files(folder):
        name = file.relative_to(folder).as_posix()
        try:
            if file.suffix == ".json":
                json.loads(file.read_bytes())
            elif file.suffix == ".safetensors":
                with safe_open(file, "pt"):
                    pass
        except SafetensorError as error:
            return (
                f"{name} can't be read as safetensors ({error}); it may be cut short: fetch or save it again"
            )
        except (ValueError, OSError) as error:
            return f"{name} can't be read ({error}); fetch or save it again"
    return _missing_shard(folder)


def _missing_shard(folder: Path) -> str | None:
    index = folder / "model.safetensors.index.json"
    if not index.is_file():
        return None
    found = json.loads(index.read_bytes())
    shards = found.get("weight_map") if isinstance(found, dict) else None
    if not isinstance(shards, dict):
        return f"{index.name} has no weight_map; save the model again"
    missing = sorted({str(shard) for shard in shards.values() if not (folder / str(shard)).is_file()})
    return f"{missing[0]} is not there, which {index.name} names; fetch it" if missing else None
