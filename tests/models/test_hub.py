"""Models of the hub: whole, at one commit, or one line that says why not."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from huggingface_hub import constants

from peftbench.errors import UsageError
from peftbench.models.resolve import resolve_model

from ..support.hub import SmallHub

Of = Callable[[str], str]
BESIDE = {
    "README.md": b"---\nlicense: mit\n---\n",
    "1_Pooling/config.json": b'{"pooling_mode_mean_tokens": true}',
    "modules.json": b'[{"path": "1_Pooling", "type": "sentence_transformers.models.Pooling"}]',
    "onnx/config.json": b"{}",
    "onnx/model.safetensors": b"not asked for",
    "consolidated.safetensors": b"not asked for",
    "pytorch_model.bin": b"not asked for",
}


def files_of(folder: str) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in Path(folder).iterdir()}


def test_a_model_comes_whole_and_nothing_else_comes(hub: SmallHub, checkpoint: Of) -> None:
    files = files_of(checkpoint("bert"))
    commit = hub.push("org/model", {**files, **BESIDE})
    source = resolve_model("org/model")
    come = {path.relative_to(source.location).as_posix() for path in Path(source.location).rglob("*.*")}
    assert come == {*files, "README.md", "modules.json", "1_Pooling/config.json"}
    assert source.revision == commit == Path(source.location).name
    assert resolve_model("org/model@main").revision == commit


def test_what_another_program_fetched_of_it_is_completed(hub: SmallHub, checkpoint: Of) -> None:
    import huggingface_hub

    hub.push("org/model", {**files_of(checkpoint("bert")), **BESIDE})
    huggingface_hub.snapshot_download("org/model", allow_patterns=["config.json", "model.safetensors"])
    folder = Path(resolve_model("org/model").location)
    assert (folder / "1_Pooling" / "config.json").is_file() and (folder / "tokenizer.json").is_file()


def test_without_the_hub_what_speaks_of_lacking_parts_is_refused(
    hub: SmallHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody here knows what is in the repository; the files themselves speak of others."""
    index = json.dumps({"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors"}}).encode()
    parts = {"config.json": b"{}", "model.safetensors.index.json": index, "model-1.safetensors": b""}
    folder = Path(constants.HF_HUB_CACHE) / "models--org--model"
    for name, content in {**parts, "modules.json": BESIDE["modules.json"]}.items():
        file = folder / "snapshots" / ("0" * 40) / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
    (folder / "refs").mkdir()
    (folder / "refs" / "main").write_text("0" * 40)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(UsageError, match="is here without model-2.safetensors, 1_Pooling/config.json"):
        resolve_model("org/model")
    (folder / "snapshots" / ("0" * 40) / "modules.json").write_text("{")
    with pytest.raises(UsageError, match="does not load: modules.json can't be read"):
        resolve_model("org/model")


@pytest.mark.parametrize(
    ("files", "said"),
    [
        (
            {
                "adapter_config.json": b'{"base_model_name_or_path": "org/base"}',
                "adapter_model.safetensors": b"",
            },
            "is an adapter of org/base; go on from it with --model org/base --methods lora:start=org/model",
        ),
        (
            {"adapter_config.json": b"{}"},
            "is an adapter of a model that it does not name; go on from it with --model MODEL",
        ),
        ({"adapter_config.json": b"[]"}, "holds no readable adapter_config.json"),
        ({"adapter_config.json": b"{"}, "holds no readable adapter_config.json"),
        ({"config.json": b"{}", "pytorch_model.bin": b""}, "has pytorch_model.bin alone on the hub"),
        ({"README.md": b""}, "has no config.json on the hub"),
    ],
)
def test_what_is_no_model_is_said(files: dict[str, bytes], said: str, hub: SmallHub) -> None:
    hub.push("org/model", files)
    with pytest.raises(UsageError, match=said):
        resolve_model("org/model")
    assert not [line for line in hub.asked if "safetensors" in line or ".bin" in line]


def test_a_word_is_a_starter_written_wrongly(hub: SmallHub) -> None:
    with pytest.raises(
        UsageError, match=r"unknown model 'tiny-encodr'; did you mean 'tiny-encoder' .*the hub has nothing"
    ):
        resolve_model("tiny-encodr")
