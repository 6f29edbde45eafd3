"""Checkpoints that are stored quantised: one line that says what to use, or the plain weights that they stand for."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from peftbench.comparison.request import Comparison
from peftbench.engine.protocol import Capacity, Device
from peftbench.errors import UsageError
from peftbench.models.load import load_model
from peftbench.models.resolve import resolve_model
from peftbench.planning.plan import plan

from ..support.hub import SmallHub

Of = Callable[[str], str]
KINDS: dict[str, dict[str, Any]] = {
    "gptq": {"quant_method": "gptq", "bits": 4, "group_size": 128},
    "awq": {"quant_method": "awq", "bits": 4, "group_size": 128},
    "compressed-tensors": {"quant_method": "compressed-tensors", "format": "pack-quantized"},
    "bitsandbytes": {"load_in_4bit": True, "bnb_4bit_quant_type": "nf4"},
}


def stored(checkpoint: Of, folder: Path, said: dict[str, Any]) -> Path:
    """A tiny Llama whose config says that it is stored so."""
    shutil.copytree(checkpoint("llama"), folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "quantization_config": said}))
    return folder


@pytest.mark.parametrize("kind", KINDS)
def test_what_can_not_be_adapted_is_one_line_of_the_plan(kind: str, checkpoint: Of, tmp_path: Path) -> None:
    folder = stored(checkpoint, tmp_path / "model", KINDS[kind])
    (folder / "README.md").write_text("---\nlicense: mit\nbase_model:\n- org/plain-7B\n---\n")
    asked = Comparison(("lora",), models=(str(folder),), tasks=("synthetic",))
    with pytest.raises(UsageError) as raised:
        plan(asked, Capacity((Device("cpu", 1, 2**34, False),), cores=1))
    said = str(raised.value)
    assert f"is stored quantised ({kind})" in said and "made from, org/plain-7B, with --methods qlora" in said
    assert "\n" not in said


def test_it_is_said_before_anything_large_is_downloaded(
    hub: SmallHub, checkpoint: Of, tmp_path: Path
) -> None:
    hub.push("org/model-awq", stored(checkpoint, tmp_path / "model", KINDS["awq"]))
    with pytest.raises(UsageError, match=r"'org/model-awq' is stored quantised \(awq\)"):
        resolve_model("org/model-awq")
    assert not [asked for asked in hub.asked if "safetensors" in asked]


def test_floats_of_8_bits_are_read_as_the_weights_that_they_stand_for(checkpoint: Of, tmp_path: Path) -> None:
    said = {"quant_method": "fp8", "activation_scheme": "dynamic", "weight_block_size": [16, 16]}
    folder = stored(checkpoint, tmp_path / "model", said)
    file = folder / "model.safetensors"
    weights, kept = load_file(file), {}
    for name, weight in weights.items():
        if "_proj" in name:
            rows, columns = weight.shape
            blocks = weight.view(rows // 16, 16, columns // 16, 16)
            scales = blocks.abs().amax((1, 3), keepdim=True) / 448  # the largest number of that type
            kept[name] = (blocks / scales).view(rows, columns).to(torch.float8_e4m3fn)
            kept[f"{name}_scale_inv"] = scales[:, 0, :, 0].contiguous()
        else:
            kept[name] = weight
    save_file(kept, file, metadata={"format": "pt"})
    loaded = load_model(resolve_model(str(folder)), None, 0)
    layers = {name: p for name, p in loaded.model.named_parameters() if "_proj" in name}
    assert layers and all(
        type(loaded.model.get_submodule(n.rpartition(".")[0])) is torch.nn.Linear for n in layers
    )
    for name, p in layers.items():  # three bits of fraction
        assert (p - weights[name]).abs().max() <= weights[name].abs().max() / 16
        assert p.dtype == torch.float32
    assert any("stored in fp8" in said for said in loaded.notices)
