"""`peftbench analyze` on stored runs and on checkpoints of the PEFT library."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from peftbench import UsageError
from peftbench.adaptation import weight_of
from peftbench.analysis.found import analyze
from peftbench.analysis.text import folder_of, text_of
from peftbench.analysis.updates import updates_at
from peftbench.prepare import Prepared
from peftbench.record import Record

from .test_export import Of, exported, trained

__all__ = ["trained"]
Train = Callable[..., tuple[Prepared, Record]]


def run_folder(tmp_path: Path, record: Record) -> Path:
    return folder_of(record.key[:12], tmp_path / "runs")


@pytest.mark.parametrize("method", ["lora:rank=4", "rslora:rank=4", "lora-fa:rank=4", "adalora"])
def test_an_update_is_what_merging_adds(trained: Train, checkpoint: Of, tmp_path: Path, method: str) -> None:
    prepared, record = trained(method, checkpoint("bert"))
    found = updates_at(run_folder(tmp_path, record))
    assert {one.role for one in found} == {"query", "value"} and len(found) == 4
    folded = prepared.adaptation.folded()
    for update in found:
        base, _ = prepared.adaptation.swaps[update.name]
        with torch.no_grad():
            added = weight_of(folded[update.name]) - weight_of(base)
        # A sum of float32 weights of size 1 was rounded once.
        assert update.b @ update.a == pytest.approx(added.double().numpy(), abs=1e-6)
        assert np.abs(update.b).max() > 0
        assert update.weight == pytest.approx(weight_of(base).detach().double().numpy())


def test_a_fused_projection_is_one_matrix_for_each_role(
    trained: Train, checkpoint: Of, tmp_path: Path
) -> None:
    prepared, record = trained("lora:rank=3", checkpoint("gpt2"))
    found = updates_at(run_folder(tmp_path, record))
    assert [(one.role, one.layer) for one in found] == [(r, n) for n in (0, 1) for r in ("query", "value")]
    name, (base, _) = next(iter(prepared.adaptation.swaps.items()))
    with torch.no_grad():
        added = weight_of(prepared.adaptation.folded()[name]) - weight_of(base)
    query, value = found[:2]
    assert len(query.a) == len(value.a) == 3 and query.name == f"{name} query"
    assert query.b @ query.a == pytest.approx(added[:32].double().numpy(), abs=1e-6)
    assert value.b @ value.a == pytest.approx(added[64:].double().numpy(), abs=1e-6)
    assert value.weight == pytest.approx(weight_of(base)[64:].detach().double().numpy())


def test_a_checkpoint_is_the_run_that_it_came_from(trained: Train, checkpoint: Of, tmp_path: Path) -> None:
    _, record = trained("rslora:rank=4", checkpoint("bert"))
    run, saved = run_folder(tmp_path, record), exported(record, tmp_path)
    found = analyze(run, folder_of(str(saved), tmp_path), None, ())
    assert len(found["pairs"]) == 4
    for pair in found["pairs"]:
        assert np.diag(np.array(pair["phi_of_a"])) == pytest.approx(np.ones(4), abs=1e-5)
        assert np.diag(np.array(pair["phi_of_product"])) == pytest.approx(np.ones(4), abs=1e-5)
    alone = analyze(saved, None, None, ())["updates"]
    for one, other in zip(found["updates"], alone, strict=True):
        assert one["name"] == other["name"] and other["weight_norm"] is None and other["moved"] is None
        assert one["update_norm"] == pytest.approx(other["update_norm"], rel=1e-5)
        assert one["moved"] > 0 and one["weight_on_weight"] > one["weight_on_update"] > 0
        assert one["amplification"] == pytest.approx(one["update_norm"] / one["weight_on_update"])


def test_the_start_is_the_run_s_own(trained: Train, checkpoint: Of, tmp_path: Path) -> None:
    """A frozen A has not moved at all, so what it began as was drawn again exactly."""
    _, record = trained("lora-fa:rank=4", checkpoint("bert"))
    found = analyze(run_folder(tmp_path, record), None, "query", ())["updates"]
    assert [one["moved"] for one in found] == [0.0, 0.0]


def test_what_is_printed(trained: Train, checkpoint: Of, tmp_path: Path) -> None:
    _, record = trained("lora:rank=4", checkpoint("bert"))
    folder = run_folder(tmp_path, record)
    text = text_of(analyze(folder, folder, "layer.1", ()))
    assert "encoder.layer.1.attention.self.query" in text and "layer.0" not in text
    assert text.count("|\n|--") == 2 and "In 2 of 2 A moved less than 5 times its start" in text
    assert "| 4, 4 |" in " ".join(text.split())
    assert json.loads(json.dumps(analyze(folder, None, None, ())))["updates"][0]["rank"] == 4


def test_what_cannot_be_analyzed(trained: Train, checkpoint: Of, tmp_path: Path) -> None:
    _, record = trained("lora:rank=4", checkpoint("bert"))
    folder = run_folder(tmp_path, record)
    with pytest.raises(UsageError, match=r"unknown matrix or role 'qery'; did you mean 'query'"):
        analyze(folder, None, "qery", ())
    with pytest.raises(UsageError, match="neither adapter_config.json nor record.json"):
        folder_of(str(tmp_path), tmp_path / "runs")
    _, other = trained("adapter", checkpoint("bert"))
    with pytest.raises(UsageError, match="'adapter' trains no low-rank updates"):
        analyze(run_folder(tmp_path, other), None, None, ())
    _, dora = trained("dora:rank=4", checkpoint("bert"))
    with pytest.raises(UsageError, match="not of low rank"):
        analyze(run_folder(tmp_path, dora), None, None, ())
    _, keys = trained("lora:rank=4:targets=key", checkpoint("bert"))
    with pytest.raises(UsageError, match="adapt no matrix in common"):
        analyze(folder, run_folder(tmp_path, keys), None, ())
    _, bare = trained("lora:rank=5", checkpoint("bert"), keep=False)
    with pytest.raises(UsageError, match="kept no weights"):
        run_folder(tmp_path, bare)
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "adapter_config.json").write_text("{")
    with pytest.raises(UsageError, match="no checkpoint of the PEFT library that reads"):
        updates_at(tmp_path / "broken")
