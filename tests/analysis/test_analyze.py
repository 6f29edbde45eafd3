"""`peftbench analyze` on stored runs and on checkpoints of the PEFT library."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from peftbench import UsageError
from peftbench.analysis.analyze import analyze
from peftbench.analysis.subspace import product_svd, right_directions
from peftbench.analysis.updates import updates_at
from peftbench.execution.prepare import Prepared
from peftbench.inspection.stored_runs import analyzable
from peftbench.models.adaptation import weight_of
from peftbench.records.record import Record
from peftbench.render.analysis import analysis_text

from ..support.exported import Of, exported, trained

__all__ = ["trained"]
Train = Callable[..., tuple[Prepared, Record]]


def run_folder(tmp_path: Path, record: Record) -> Path:
    return analyzable(record.key[:12], tmp_path / "runs")


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
    found = analyze(run, analyzable(str(saved), tmp_path), None, ())
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
    text = analysis_text(analyze(folder, folder, "layer.1", ()))
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
        analyzable(str(tmp_path), tmp_path / "runs")
    _, other = trained("adapter", checkpoint("bert"))
    with pytest.raises(UsageError, match="'adapter' trains no low-rank updates"):
        analyze(run_folder(tmp_path, other), None, None, ())
    _, dora = trained("dora:rank=4", checkpoint("bert"))
    with pytest.raises(UsageError, match="made with use_dora"):
        analyze(run_folder(tmp_path, dora), None, None, ())
    _, keys = trained("lora:rank=4:targets=key", checkpoint("bert"))
    with pytest.raises(UsageError, match="adapt no matrix in common"):
        analyze(folder, run_folder(tmp_path, keys), None, ())
    _, bare = trained("lora:rank=5", checkpoint("bert"), keep=False)
    with pytest.raises(UsageError, match="kept no weights"):
        run_folder(tmp_path, bare)
    _, tried = trained("lora:rank=6", checkpoint("bert"), status="failed")
    for place in (str(folder_of_key(tmp_path, tried)), tried.key[:12]):
        with pytest.raises(UsageError, match="failed. kept no weights"):
            analyzable(place, tmp_path / "runs")


def folder_of_key(tmp_path: Path, record: Record) -> Path:
    return tmp_path / "runs" / record.key / "0001"


CONFIG = {"peft_type": "LORA", "r": 4, "lora_alpha": 16}
PAIR = {"base_model.model.l.q_proj.lora_A.weight": (4, 6), "base_model.model.l.q_proj.lora_B.weight": (5, 4)}


def written(
    folder: Path, config: object, shapes: Mapping[str, tuple[int, ...]], fill: float | None = None
) -> Path:
    folder.mkdir()
    (folder / "adapter_config.json").write_text(json.dumps(config))
    drawn = {
        name: torch.randn(shape) if fill is None else torch.full(shape, fill)
        for name, shape in shapes.items()
    }
    save_file(drawn, folder / "adapter_model.safetensors")
    return folder


@pytest.mark.parametrize(
    ("config", "scale"),
    [
        ({}, 4.0),
        ({"use_rslora": True}, 8.0),
        ({"alpha_pattern": {"(q|v)_proj": 32}}, 8.0),
        ({"alpha_pattern": {"^l.q_proj": 32}}, 8.0),
        ({"alpha_pattern": {"proj": 32}}, 4.0),  # the end of a name is cut at a dot
    ],
)
def test_the_scale_is_the_library_s(tmp_path: Path, config: dict[str, object], scale: float) -> None:
    folder = written(tmp_path / "c", CONFIG | config, PAIR)
    (update,) = updates_at(folder)
    saved = load_file(folder / "adapter_model.safetensors")
    assert update.b == pytest.approx(
        scale * saved["base_model.model.l.q_proj.lora_B.weight"].double().numpy()
    )


@pytest.mark.parametrize(
    ("config", "shapes", "fill", "said"),
    [
        ([], PAIR, None, "no JSON object"),
        (CONFIG | {"peft_type": "IA3"}, PAIR, None, "is a IA3 adapter, not a LoRA"),
        (
            CONFIG | {"init_lora_weights": "pissa_niter_4"},
            PAIR,
            None,
            "over a base that pissa_niter_4 had changed",
        ),
        (CONFIG | {"lora_bias": True}, PAIR, None, "made with lora_bias"),
        (CONFIG, {name: PAIR[name] for name in list(PAIR)[:1]}, None, "an A and no B at l.q_proj"),
        (
            CONFIG,
            {name: (*shape, 1, 1) for name, shape in PAIR.items()},
            None,
            "no pair of low-rank matrices",
        ),
        (CONFIG, PAIR, float("nan"), "not finite"),
    ],
)
def test_checkpoints_that_are_refused(
    tmp_path: Path, config: object, shapes: Mapping[str, tuple[int, ...]], fill: float | None, said: str
) -> None:
    with pytest.raises(UsageError, match=said):
        updates_at(written(tmp_path / "c", config, shapes, fill))


def test_a_checkpoint_that_does_not_read(tmp_path: Path) -> None:
    folder = written(tmp_path / "c", CONFIG, PAIR)
    (folder / "adapter_model.safetensors").write_bytes(b"cut off")
    with pytest.raises(UsageError, match="can't be read"):
        updates_at(folder)
    (folder / "adapter_config.json").write_text("{")
    with pytest.raises(UsageError, match="no readable adapter_config.json"):
        updates_at(folder)


def test_an_update_of_nothing_has_no_directions(tmp_path: Path) -> None:
    nothing, other = written(tmp_path / "0", CONFIG, PAIR, 0.0), written(tmp_path / "1", CONFIG, PAIR)
    found = analyze(nothing, other, None, ())
    (update,), (pair,) = found["updates"], found["pairs"]
    assert update["effective_rank"] == 0 and update["update_norm"] == 0.0
    assert pair["phi_of_a"] == pair["phi_of_product"] == []
    assert " – " in analysis_text(found) and json.dumps(found, allow_nan=False)
    assert len(analyze(other, other, None, ())["pairs"][0]["phi_of_product"]) == 4


def test_directions_without_strength_do_not_count() -> None:
    a = np.concatenate([np.eye(2, 7), np.zeros((2, 7))])
    b = np.random.default_rng(0).standard_normal((5, 4))
    u, values, v = product_svd(b, a)
    assert (
        u.shape == (5, 2)
        and values.shape == (2,)
        and v.shape == (7, 2)
        and right_directions(a).shape == (7, 2)
    )


def test_what_was_not_trained_of_a_is_not_looked_at(trained: Train, checkpoint: Of, tmp_path: Path) -> None:
    """PiSSA's form holds its start a second time: its own A has 4 rows, written are 8."""
    prepared, record = trained("pissa:rank=4", checkpoint("bert"))
    update = updates_at(run_folder(tmp_path, record))[0]
    assert len(update.a) == 8 and update.trained_rows.tolist() == [True] * 4 + [False] * 4
    found = analyze(run_folder(tmp_path, record), run_folder(tmp_path, record), "query", ())
    assert np.shape(found["pairs"][0]["phi_of_a"]) == (4, 4)
    layer = prepared.adaptation.swaps[update.name][1]
    start = update.start
    assert start is not None
    moved = np.linalg.norm(layer.a.detach().double().numpy() - start[:4]) / np.linalg.norm(start[:4])  # type: ignore[operator]
    assert found["updates"][0]["moved"] == pytest.approx(moved)


def test_a_fused_run_beside_its_own_checkpoint(trained: Train, checkpoint: Of, tmp_path: Path) -> None:
    """A checkpoint does not say which role a row of a fused projection plays, so that is compared whole."""
    _, record = trained("lora:rank=3", checkpoint("gpt2"))
    run, saved = run_folder(tmp_path, record), exported(record, tmp_path)
    for one, other in ((run, saved), (saved, run)):
        pairs = analyze(one, other, None, ())["pairs"]
        assert len(pairs) == 2 and all(pair["name"].endswith("c_attn") for pair in pairs)
        assert np.diag(np.array(pairs[0]["phi_of_product"])) == pytest.approx(np.ones(6), abs=1e-5)
