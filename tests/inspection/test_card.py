"""The card of an export: no folder of this machine, names of the hub whole, and the run's row."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from huggingface_hub import ModelCard

from peftbench.inspection.card import Base, card
from peftbench.records.runs import Run

from ..support.results import result


def test_a_card_has_metadata_and_the_runs_row(make_run: Callable[..., Run], tmp_path: Path) -> None:
    commit = "0" * 40
    run = make_run(
        "lora:start=/home/me/adapter",
        "org/base",
        task="hub:path=org/data",
        identity={"model": "1" * 40, "task": "1", "data": "1", "method": "1"},
        commits={"datasets/org/data@v1": commit},
    )
    found = result(run, tmp_path, 0.75)
    assert found.folder is not None
    base = Base("org/base", commit, tmp_path, is_starter=False)
    text = card(
        found.record, found.folder, None, base, "sequence", ["from peft import PeftModel"], "Nothing beside."
    )
    data: Any = ModelCard(text).data
    assert (data.base_model, data.library_name, data.license) == ("org/base", "peft", None)
    assert (data.datasets, data.metrics, data.pipeline_tag) == (
        ["org/data"],
        ["accuracy"],
        "text-classification",
    )
    assert "# lora:start=adapter on org/base, task hub:path=org/data, seed 0" in text
    assert f"datasets/org/data@v1 at {commit}" in text
    assert f"From the hub: datasets/org/data@v1 at {commit[:12]}, org/base at {'1' * 12}." in text
    assert "| lora:start=adapter |" in text and "/home/me" not in text


def test_a_gguf_file_is_loaded_by_its_name() -> None:
    base = Base("/models/small.gguf", None, Path("/cache/converted"), is_starter=False)
    assert base.arguments == "'/models', gguf_file='small.gguf'"
