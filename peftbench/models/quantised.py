"""Checkpoints whose weights are stored in few bits: read as the plain weights that they stand for, or refused.

A method needs a base of plain layers: to adapt them, to merge into them and to be compared with others over one base. Of the formats
whose codes the library turns into weights while it reads them (8 and 4 bit floats) the base is those weights.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..errors import ModelError

AS_PLAIN = ("fp8", "mxfp4")  # what the library reads as plain weights, on any device


def format_of(config: Mapping[str, Any]) -> str | None:
    """The format that a config.json says its weights are in; None where they are plain."""
    said = config.get("quantization_config") or config.get("compression_config")
    if not isinstance(said, dict):
        return None
    of_bitsandbytes = said.get("load_in_4bit") or said.get("load_in_8bit")
    return str(said.get("quant_method") or ("bitsandbytes" if of_bitsandbytes else "an unknown format"))


def check_format(name: str, folder: Path) -> None:
    """Whether the checkpoint in a folder is plain, or can be read as such.

    Raises:
        ModelError: it is not; the message says what to use instead.
    """
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):  # which loading says
        return
    found = format_of(config) if isinstance(config, dict) else None
    if found is None or found in AS_PLAIN:
        return
    made_from = _made_from(folder)
    raise ModelError(
        f"model {name!r} is stored quantised ({found}), and methods need plain weights to adapt, merge and compare; use the "
        f"checkpoint that it was made from{f', {made_from}' if made_from else ''}, with --methods qlora for a base in 4 bits"
    )


def plain_arguments(config: Mapping[str, Any]) -> dict[str, Any]:
    """What the library is told so that it reads plain weights."""
    if format_of(config) not in AS_PLAIN:
        return {}
    from transformers.quantizers.auto import AutoQuantizationConfig

    said = {**config["quantization_config"], "dequantize": True}
    return {"quantization_config": AutoQuantizationConfig.from_dict(said)}


def _made_from(folder: Path) -> str | None:
    """The base model that a card names."""
    try:
        card = (folder / "README.md").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    found = re.search(r"^base_model:\s*(?:-\s*)?[\"']?([\w.-]+/[\w.-]+)", card, re.MULTILINE)
    return None if found is None else found[1]
