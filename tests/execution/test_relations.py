"""What predictions depend on: where it is the model and not the method, the reader is told."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers

from peftbench.execution import relations
from peftbench.execution.batches import Encoded, Ragged
from peftbench.execution.execute import execute
from peftbench.execution.probe import Probe
from peftbench.models.starters import byte_tokenizer
from peftbench.models.streams import stream
from peftbench.records.record import FAIL, PASS
from peftbench.records.runs import Conditions, Run

from ..conftest import SIZES
from ..support.adapted import adapted


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


@pytest.mark.parametrize(("autocast", "outcome"), [(None, FAIL), (torch.bfloat16, PASS)])
def test_a_batch_of_another_shape_rounds_otherwise_in_half_precision(
    autocast: torch.dtype | None, outcome: str, make_run: Callable[..., Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    """QLoRA's outputs did, by 5e-4 of their norm, where those of the base happened to be the same to the bit."""
    adaptation = adapted(make_run("lora", "tiny-encoder")).adaptation
    bases = {id(base) for base, _ in adaptation.swaps.values()}

    def outputs(model: Any, probe: Any, rows: list[int] | None = None, padded: bool = False) -> torch.Tensor:
        is_base = any(
            id(module) in bases for name, module in model.named_modules() if name in adaptation.swaps
        )
        off = 0.0 if is_base or rows is None else 1e-3
        return torch.ones(len(rows if rows is not None else range(4)), 2) + off

    monkeypatch.setattr(relations, "outputs", outputs)
    split = Encoded({"input_ids": Ragged(np.arange(12), np.arange(0, 13, 3))}, {})
    probe = Probe(split, {}, torch.device("cpu"), 3, autocast)
    assert relations.each_alone(adaptation, probe, torch.ones(4, 2)).outcome == outcome


def fnet(folder: Path) -> str:
    tokenizer: Any = byte_tokenizer()
    sizes = {name: size for name, size in SIZES.items() if name != "num_attention_heads"}
    with stream(0, "fnet"):
        config = transformers.FNetConfig(vocab_size=len(tokenizer), pad_token_id=0, **sizes)
        transformers.FNetModel(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)
