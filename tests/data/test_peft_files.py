"""Saved adapters, in a folder or under a name of the hub."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from huggingface_hub import constants

from peftbench.data.hub import pinned
from peftbench.data.peft_files import PeftFiles, adapter_folder
from peftbench.errors import UsageError
from peftbench.inspection.stored_runs import analyzable
from peftbench.plugins.build import canonical, commits_of, method_identity
from peftbench.records.runs import Run

from ..support.adapted import adapted
from ..support.exported import saved
from ..support.hub import SmallHub

OPTIONS = {"r": 4, "lora_alpha": 8, "target_modules": ["query", "value"]}


def test_methods_go_on_from_an_adapter_of_the_hub_at_the_commit_of_the_plan(
    hub: SmallHub,
    tmp_path: Path,
    checkpoint: Callable[[str], str],
    make_run: Callable[..., Run],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    saved(tmp_path / "adapter", checkpoint("bert"), "LORA", OPTIONS, "BertModel")
    commit = hub.push("org/adapter", tmp_path / "adapter", "v1")
    files = analyzable("org/adapter@v1", tmp_path / "no store")
    assert PeftFiles(files).fingerprint() == PeftFiles(tmp_path / "adapter").fingerprint()
    for method in ("lora:rank=4:alpha=8.0:start=org/adapter@v1", "peft:path=org/adapter@v1"):
        read = commits_of(method, ())
        assert read == {"org/adapter@v1": commit}
        identity, here = method_identity(method), method.replace("org/adapter@v1", str(tmp_path / "adapter"))
        assert canonical(method) == method
        hub.push("org/adapter", {"adapter_config.json": b"{}"}, "v1")
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
        with pinned(read):
            assert method_identity(method) == identity
            one = adapted(make_run(method, checkpoint("bert"))).adaptation
        other = adapted(make_run(here, checkpoint("bert"))).adaptation
        assert one.params and all((one.params[name] == p).all() for name, p in other.params.items())
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        hub.repositories["org/adapter"].refs["v1"] = commit


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("adapter", "give a folder with adapter_config.json, or a hub id"),
        ("./adapter", "give a folder with adapter_config.json, or a hub id"),
        ("org/model", "'org/model' has no adapter_config.json on the hub"),
        ("org/none", "adapter 'org/none': the hub has nothing of this name"),
    ],
)
def test_what_is_no_adapter_is_said(text: str, said: str, hub: SmallHub) -> None:
    hub.push("org/model", {"config.json": b"{}"})
    with pytest.raises(UsageError, match=said):
        adapter_folder(text)
