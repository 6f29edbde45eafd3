"""Models in GGUF, the format of llama.cpp: converted once to safetensors, since training never reads the packed file.

What was quantised there keeps the values that quantisation left it. The tokenizer comes from the same file.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import transformers

from ..data.cache import cache_folder, make_once
from ..errors import UsageError
from .quiet import quiet

CONVERSION_VERSION = 1  # raise it when what is written changes


def convert(file: Path, folder: Path) -> None:
    """Write the model and the tokenizer of a file into a folder, in float32."""
    options: dict[str, Any] = {"gguf_file": file.name, "dtype": torch.float32}
    if hasattr(transformers, "GgufConfig"):  # newer releases keep the weights packed unless told otherwise
        options["quantization_config"] = transformers.GgufConfig(dequantize=True)
    with quiet():
        packed = transformers.AutoModelForCausalLM.from_pretrained(str(file.parent), **options)
        tokenizer = transformers.AutoTokenizer.from_pretrained(str(file.parent), gguf_file=file.name)
        config = packed.config
        if hasattr(config, "quantization_config"):
            del config.quantization_config
        # A model that was loaded from GGUF refuses to be saved; a plain one with its numbers does not.
        dense = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    dense.load_state_dict(packed.state_dict())
    dense.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def converted(file: Path, revision: str) -> Path:
    """The folder of the converted model, made on first use.

    Raises:
        UsageError: the file is no model that the library reads.
    """
    home = cache_folder() / "models" / f"{file.stem}-{revision}"
    try:
        make_once(home, lambda folder: convert(file, folder))
    except Exception as error:  # its readers raise whatever a broken file makes them
        said = " ".join(str(error).split())[:200]
        raise UsageError(
            f"model {str(file)!r} is no GGUF language model that transformers reads ({type(error).__name__}: {said})"
        ) from error
    return home
