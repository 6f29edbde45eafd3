"""What predictions depend on: where it is the model and not the method, the reader is told."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import transformers

from peftbench.execution.execute import execute
from peftbench.models.starters import byte_tokenizer
from peftbench.models.streams import stream
from peftbench.records.runs import Conditions, Run

from ..conftest import SIZES


@pytest.mark.parametrize("family", ["bert", "fnet"])
def test_a_model_that_mixes_an_item_with_its_padding_is_said(
    family: str, make_run: Callable[..., Run], checkpoint: Callable[[str], str], tmp_path: Path
) -> None:
    """FNet's Fourier transform runs over padding, which it knows no mask for."""
    file = tmp_path / "rows.csv"
    file.write_text(
        "text,label\n" + "".join(f"{'ab'[i % 2] * (3 + i % 17)} {i},{i % 2}\n" for i in range(80))
    )
    folder = checkpoint("bert") if family == "bert" else fnet(tmp_path / "fnet")
    record = execute(make_run("bitfit", folder, task=f"csv:path={file}"), tmp_path, Conditions())
    said = [notice for notice in record.model_notices or () if "depend on its padding" in notice]
    assert len(said) == (family == "fnet"), record.checks


def fnet(folder: Path) -> str:
    tokenizer: Any = byte_tokenizer()
    sizes = {name: size for name, size in SIZES.items() if name != "num_attention_heads"}
    with stream(0, "fnet"):
        config = transformers.FNetConfig(vocab_size=len(tokenizer), pad_token_id=0, **sizes)
        transformers.FNetModel(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)
