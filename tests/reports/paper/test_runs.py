"""Experiments from the command line to their pages: real runs of tiny models, resumed from the store."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch
from peftbench.reports.paper import _kept, _spaces, figure5, seed, table1, table16
from peftbench.reports.paper._scored import Arm, Setting, train

from peftbench.cli.app import main
from peftbench.engine.named import engine_named
from peftbench.experiments.page import CONFIRMED, CONTRADICTED, NOT_TESTABLE, UNDECIDED, Asked
from peftbench.records.results import Result
from peftbench.records.store import Store

TINY = Setting("tiny-encoder", "synthetic:train_items=64:test_items=40", seeds=2, steps=4, max_length=24)


def page(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[str, str]:
    """The Markdown page of an experiment, and what was said meanwhile."""
    out = tmp_path / "pages"
    with pytest.raises(SystemExit) as ended:
        main(["paper", name, "--store", str(tmp_path / "runs"), "--out", str(out), *arguments])
    said = capsys.readouterr()
    assert ended.value.code == 0, said.err
    text = (out / f"{name}.md").read_text(encoding="utf-8")
    verdicts = text.partition("## What the paper says of it")[2]
    assert any(f"| {word} " in verdicts for word in (CONFIRMED, CONTRADICTED, UNDECIDED, NOT_TESTABLE))
    web = (out / f"{name}.html").read_text(encoding="utf-8")
    for picture in out.glob(f"{name}-*.svg"):
        assert f"]({picture.name})" in text and picture.read_text(encoding="utf-8").startswith("<?xml")
        assert "data:image/svg+xml;base64," in web
    assert "http://" not in web and "https://" not in web
    return text, said.err  # fmt: skip


def test_cells_have_rates_of_their_own(tmp_path: Path, cache: Any) -> None:
    """One is given, one is found on validation with trials, and both are of the same method."""
    arms = [
        Arm("given", "lora:rank=2", learning_rate=0.05),
        Arm("found", "lora:rank=2"),
        Arm("none", "lora:rank=2", 8),
    ]
    with engine_named("inline") as engine:
        found = train(Asked("cpu", tmp_path / "runs", engine), dataclasses.replace(TINY, tune=1), arms)
    assert found.rates == {"given": 0.05, "found": 0.002, "none": 0.002}
    kinds = [r.record.run.kind for r in (Result(s.record, s.folder) for s in Store(tmp_path / "runs").all())]
    assert (
        kinds.count("tuning") == 4 and kinds.count("training") == 6
    )  # two numbers of items have trials of their own
    assert found.difference("given", "found") is not None and found.trained("given") == 512
    assert found.difference("given", "nobody") is None


def test_a_page_is_made_again_from_the_store(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, cache: Any
) -> None:
    monkeypatch.setattr(table16, "SETTINGS", {"cpu": TINY})
    monkeypatch.setattr(table16, "SIZES", {"cpu": (8,)})
    text, said = page("table16", tmp_path, capsys)
    assert "| LoRA, 8 " in text and "table16-1.svg" in text and "[8/8]" in said
    records = {file: file.stat().st_mtime_ns for file in (tmp_path / "runs").rglob("record.json")}
    assert len(records) == 8
    assert page("table16", tmp_path, capsys)[0] == text
    assert {file: file.stat().st_mtime_ns for file in (tmp_path / "runs").rglob("record.json")} == records


def test_spans_of_stored_runs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, cache: Any
) -> None:
    """figure4's runs of shuffled labels need the task that shuffles; table7 needs none of them."""
    monkeypatch.setattr(_spaces, "SETTINGS", {"cpu": dataclasses.replace(TINY, seeds=3)})
    text, said = page("table7", tmp_path, capsys)
    assert "| r = 4, printed " in text and "projecting rank 64, seed 2" in said
    # After four steps A is what it was drawn as: nothing is said of its directions.
    assert (
        "A moved by 0." in text and "times its start, not 5" in text and text.count(f"| {NOT_TESTABLE} ") == 5
    )
    text, _ = page("figure8", tmp_path, capsys)
    assert "figure8-1.svg" in text


def test_latency_pages(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, cache: Any
) -> None:
    setting = table1.Setting("tiny-encoder", ((2, 8), (2, 4), (1, 4)), (2, 1), (4, 2), 2, 3)
    monkeypatch.setattr(table1, "SETTINGS", {"cpu": setting})
    text, said = page("table1", tmp_path, capsys)
    assert "| AdapterH " in text and "[2/2] a process of its own: ok" in said and "on this CPU: " in text
    monkeypatch.setattr(
        figure5, "SETTINGS", {"cpu": figure5.Setting("tiny-encoder", (4, 8), (1, 2), (2,), 2, 3)}
    )
    assert "figure5-1.svg" in page("figure5", tmp_path, capsys)[0]


def test_parts_of_updates_and_full_rank(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, cache: Any
) -> None:
    monkeypatch.setattr(seed, "SETTINGS", {"cpu": dataclasses.replace(TINY, keep_weights=True)})
    monkeypatch.setattr(seed, "RANKS", {seed.FULL: (1, 8), seed.LORA: (1,)})
    text, _ = page("seed", tmp_path, capsys)
    row = next(line for line in text.splitlines() if line.startswith("| With r = d"))
    assert "| confirmed" in row  # a LoRA of full rank has the logits of full fine-tuning


def test_switching_drifts_in_bfloat16_and_not_in_float32() -> None:
    torch.manual_seed(0)
    weight = torch.randn(64, 64) / 8
    one, other = ((torch.randn(64, 4) * 0.05, torch.randn(4, 64) * 0.05) for _ in range(2))
    weight += one[0] @ one[1]
    assert _kept.drift(weight, one, other, 100) < 1e-3
    assert _kept.drift(weight.bfloat16(), one, other, 100) > 0.01
    assert _kept.rewritten((weight - one[0] @ one[1]).bfloat16(), one, other, 100) == 0


def test_an_experiment_that_is_not_there(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments, said in (
        (["figure33"], "did you mean 'figure3'"),
        (["table1", "--scale", "tiny"], "one of cpu, small, full"),
        (["table1", "--dtype", "float16"], "float32, bfloat16"),
        (["table1", "--model", "tiny-encodr"], "did you mean 'tiny-encoder'"),
    ):
        with pytest.raises(SystemExit) as ended:
            main(["paper", *arguments, "--quiet"])
        error = capsys.readouterr().err
        assert ended.value.code == 2 and said in error and len(error.strip().splitlines()) == 1, error
