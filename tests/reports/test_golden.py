"""Reports: golden text of a comparison made of records written by hand."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats as scipy_stats

from peftbench import UsageError
from peftbench.comparison.compare import Compared
from peftbench.plugins import registry
from peftbench.plugins.rendering import render
from peftbench.records.joint import joined
from peftbench.records.record import Record
from peftbench.records.results import Result
from peftbench.records.runs import Run
from peftbench.render.columns import arranged
from peftbench.render.flat import flat_rows
from peftbench.tables.summary import summarise
from peftbench.tables.table import Table
from peftbench.tables.tabulate import tabulate
from peftbench.tables.titles import described

from ..support import results
from ..support.results import ENVIRONMENT, KINDS, LIBRARIES, STRANGE, hostile, result, text

tables = results.tables  # the fixture


@pytest.mark.parametrize(
    ("report", "ending"), [("markdown", "md"), ("latex", "tex"), ("csv", "csv"), ("json", "json")]
)
def test_text_is_golden(report: str, ending: str, tables: list[Table]) -> None:
    golden = Path(__file__).with_name(f"golden_table.{ending}")
    if os.environ.get("UPDATE_GOLDEN"):
        golden.write_text(text(tables, report), encoding="utf-8")
    assert text(tables, report) == golden.read_text(encoding="utf-8")


def test_what_tells_tables_apart_is_a_column(tables: list[Table]) -> None:
    (row, *_) = flat_rows(tables[0])
    assert {name.replace(" ", "_") for name in described(tables[0].setting)} <= row.keys()


def test_strange_names_stay_text(tables: list[Table]) -> None:
    found = {name: text(hostile(tables), name) for name in registry.load("report") if name != "png"}
    for name, said in found.items():
        assert "\x00" not in said or name == "csv", name
        assert "\x1b" not in said or name == "csv", name
    assert "<script" not in found["markdown"] and "&lt;script>" in found["markdown"]
    lines = [line for line in found["markdown"].splitlines() if line.startswith("|")]
    assert len({len(re.findall(r"(?<!\\)\|", line)) for line in lines}) == 1  # no cell was cut in two
    body = found["latex"].split(r"\midrule")[1].split(r"\bottomrule")[0]
    assert r"\textbackslash{}b \& 50\% \$x\$ \#1 \_\{\textasciitilde{}\textasciicircum{}\}" in body
    assert not re.findall(r"(?<!\\)[#%_]", body)
    assert json.loads(found["json"])[0]["task"] == STRANGE


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="needs pdflatex")
def test_latex_compiles_as_it_is(tables: list[Table], tmp_path: Path) -> None:
    for number, made in enumerate((tables, hostile(tables))):
        (tmp_path / f"{number}.tex").write_text(text(made, "latex"), encoding="utf-8")
        command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", f"{number}.tex"]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, check=False)
        assert done.returncode == 0, done.stdout.decode("latin-1")[-800:]


def test_columns_and_order_are_those_asked_for(tables: list[Table]) -> None:
    made = arranged(tables, "method,score,nll,latency,seeds_good", "score:desc")
    lines = text(made, "markdown").splitlines()[4:10]
    assert [cell.strip() for cell in lines[0].split("|")[1:-1]] == [
        "method", "accuracy %", "NLL vs full", "1x8 slow-down % (merged)", "seeds good",
    ]  # fmt: skip
    assert [line.split("|")[1].strip() for line in lines[2:]][:3] == [
        "full (baseline)",
        "lora",
        "head (baseline)",
    ]
    assert lines[2].split("|")[-2].strip() == "3"
    up = arranged(tables, None, "trained")
    assert [row.method for row in up[0].shown_rows][-2:] == ["adapter", "prefix"]  # without a figure, last
    assert up[0].columns == ()
    header = text(arranged(tables, "method,latency", None), "csv").splitlines()[0].split(",")
    assert header[0] == "label" and all(
        name in ("label", "slowdown") or name.startswith("latency_") for name in header
    )
    for columns, sort, said in (
        ("method,scoer", None, "did you mean 'score'"),
        (None, "x:up", "NAME:desc"),
        (" ", None, "is empty"),
    ):
        with pytest.raises(UsageError, match=said):
            arranged(tables, columns, sort)


def test_checks_and_latency_are_the_same_columns_in_every_report(tables: list[Table]) -> None:
    by_checks = arranged(tables, "method,checks,latency", "checks:desc")
    first = json.loads(text(by_checks, "json"))[0]["rows"][0]
    assert first["label"] == "lora" and first["checks_failed"] == 1 and first["check_merge"] == "fail"
    assert "status" not in first and "latency_others_cpu_share" not in first
    assert first["slowdown"] == pytest.approx(first["latency_1x8_merged_slowdown"])
    assert arranged(tables, None, "latency:desc")[0].shown_rows[0].method == "lora"


def test_csv_and_json_hold_every_column(tables: list[Table]) -> None:
    rows = list(csv.DictReader(io.StringIO(text(tables, "csv"))))
    content = json.loads(text(tables, "json"), parse_constant=lambda name: pytest.fail(name))
    assert [r["method"] for r in rows] == [r["method"] for r in content[0]["rows"]]
    lora = next(r for r in content[0]["rows"] if r["method"] == "lora")
    assert lora["score"] == pytest.approx(0.81) and lora["train_peak_bytes"] == 500_000_000
    assert lora["latency_1x8_unmerged_slowdown"] == pytest.approx(0.1) and lora["clipped_share"] == 1.0
    assert lora["latency_1x8_merged_is_none"] is True and lora["latency_1x8_copy_slowdown"] == 0.0
    assert lora["step_peak_activations_bytes"] == KINDS["activations"]
    assert lora["flops_per_step"] == pytest.approx(6_400_000) and lora["flop_utilisation"] is None
    assert lora["tokens_per_s"] == pytest.approx(6000) and lora["data_share"] == pytest.approx(0.001 / 0.051)
    failed = next(r for r in content[0]["rows"] if r["method"] == "adapter")
    assert failed["status"] == "failed" and failed["score"] is None and failed["seeds_good"] == 0
    assert next(r for r in rows if r["method"] == "adapter")["score"] == ""  # unknown is empty, never 0


def test_every_report_handles_every_kind_of_row(tables: list[Table]) -> None:
    for name in registry.load("report"):
        assert text(tables, name) and text([tables[0], tables[0]], name)


def test_a_seed_that_failed_is_shown_and_pairs_use_common_seeds(
    make_run: Callable[..., Run], tmp_path: Path
) -> None:
    results = []
    for seed in range(3):
        full, lora = make_run("full", seed=seed), make_run("lora", seed=seed)
        results.append(result(full, tmp_path, 0.8))
        good = result(lora, tmp_path, 0.7)
        results.append(good if seed else Result(Record(lora, lora.key, "failed", "killed"), None))
    (table,) = tabulate(results, "full", ("full",))
    row = table.rows[0]
    assert (row.seeds_good, row.seeds_tried, row.reason) == (2, 3, "killed")
    assert row.difference is not None and row.difference.seeds == 2
    assert "lora 2/3 seeds" in text([table], "markdown")
    assert "**lora** failed in 1 of 3 seeds: killed" in text([table], "markdown")


def test_budgets_and_models_make_tables_of_their_own(make_run: Callable[..., Run], tmp_path: Path) -> None:
    runs = [make_run(), make_run(steps=9), make_run(model="tiny-decoder"), make_run(dtype="bfloat16")]
    assert len(tabulate([result(run, tmp_path, 0.5) for run in runs], "full", ())) == 4


def test_one_seed_has_no_test(make_run: Callable[..., Run], tmp_path: Path) -> None:
    results = [result(make_run(method), tmp_path, share) for method, share in (("full", 0.9), ("lora", 0.5))]
    (table,) = tabulate(results, "full", ("full",))
    assert all(row.p_holm is None and row.mark == "" for row in table.rows)
    assert any("ONE seed" in note for note in table.footnotes)


def test_a_row_that_lost_seeds_takes_nothing_from_the_others(
    make_run: Callable[..., Run], tmp_path: Path
) -> None:
    results = []
    for seed in range(3):
        results += [
            result(make_run(method, seed=seed), tmp_path, share)
            for method, share in (("full", 0.9), ("lora", 0.5))
        ]
    lone = make_run("adapter", seed=7)
    (table,) = tabulate([*results, result(lone, tmp_path, 0.7)], "full", ("full",))
    rows = {row.method: row for row in table.rows}
    assert rows["lora"].difference is not None and rows["lora"].difference.seeds == 3 and rows["full"].mark
    assert (
        rows["adapter"].score is not None
        and rows["adapter"].difference is None
        and rows["adapter"].p_holm is None
    )


def test_few_groups_are_named(make_run: Callable[..., Run], tmp_path: Path) -> None:
    """Fifty groups are enough; the same fifty are not where one of them has nearly all items."""
    found = [result(make_run(m, seed=s), tmp_path, a, noise=s) for m, a in (("full", 0.9), ("lora", 0.5)) for s in range(3)]  # fmt: skip
    (table,) = tabulate(found, "full", ("full",))
    assert not any("Few groups" in note for note in table.footnotes)
    for one in found:
        assert one.folder is not None
        frame = pd.read_parquet(one.folder / "predictions.parquet")
        frame["group"] = np.where(np.arange(200) < 150, "large", frame["group"])
        frame.to_parquet(one.folder / "predictions.parquet")
    (table,) = tabulate(found, "full", ("full",))
    assert any("they count as 2 groups of one size" in note for note in table.footnotes)
    for one in found:
        frame = pd.read_parquet((one.folder or tmp_path) / "predictions.parquet").assign(group="all")
        frame.to_parquet((one.folder or tmp_path) / "predictions.parquet")
    (table,) = tabulate(found, "full", ("full",))
    assert any("ONE group; ± is the 95 % interval over seeds alone" in note for note in table.footnotes)
    assert {(row.mark, row.p_holm) for row in table.rows} == {("", None)} and table.resolution is None


def test_tasks_are_summed_up(make_run: Callable[..., Run], tmp_path: Path) -> None:
    """Two tasks won, one lost: a mean with a t over tasks, a tally, and ranks that are said to be mostly chance."""
    results = []
    for number, (lora, full) in enumerate(((0.9, 0.5), (0.8, 0.5), (0.3, 0.5))):
        for method, share in (("lora", lora), ("full", full), ("adapter", full)):
            for seed in range(3):
                results.append(result(make_run(method, seed=seed, task=f"task-{number}"), tmp_path, share))
    (summary,) = summarise(tabulate(results, "full", ("full",)))
    adapter_row, lora_row, full_row = summary.methods
    assert full_row.method == "full" and full_row.difference is None and lora_row.difference is not None
    assert (lora_row.wins, lora_row.ties, lora_row.losses, lora_row.undecided) == (2, 0, 1, 0)
    assert (adapter_row.ties, adapter_row.tasks) == (3, 3)
    values = [0.4, 0.3, -0.2]
    assert lora_row.difference.value == pytest.approx(np.mean(values))
    assert lora_row.difference.half_width() == pytest.approx(
        scipy_stats.t.ppf(0.975, 2) * scipy_stats.sem(values)
    )
    # lora is first, first and third of three; the two others share the places that it leaves.
    assert [row.mean_rank for row in summary.methods] == pytest.approx([13 / 6, 5 / 3, 13 / 6])
    said = text(tabulate(results, "full", ("full",)), "markdown")
    assert "### 3 tasks with tiny-encoder" in said and "2/0/1 (0)" in said
    assert "Mean ranks over fewer than 10 tasks are mostly chance" in said


def test_ranks_over_ten_tasks(make_run: Callable[..., Run], tmp_path: Path) -> None:
    results = [
        result(make_run(method, seed=seed, task=f"task-{number}"), tmp_path, share)
        for number in range(10)
        for method, share in (("lora", 0.6), ("full", 0.5), ("adapter", 0.5))
        for seed in range(2)
    ]
    (summary,) = summarise(tabulate(results, "full", ("full",)))
    assert [method.mean_rank for method in summary.methods] == [2.5, 1.0, 2.5]
    assert "mostly chance" not in text(tabulate(results, "full", ("full",)), "markdown")


def test_results_of_an_older_source_are_left_out(make_run: Callable[..., Run], tmp_path: Path) -> None:
    results = []
    for source, share, when in (("old", 0.2, "2026-01-01"), ("new", 0.8, "2026-01-02")):
        identity = {"model": "m", "task": "1", "data": "1", "method": source}
        runs = [make_run(method, identity=identity) for method in ("lora", "ia3")]
        found = [result(run, tmp_path, share) for run in runs]
        timed = joined([dataclasses.replace(run, kind="latency") for run in runs])
        found.append(Result(Record(timed, timed.key, "ok"), None))
        results += [
            dataclasses.replace(one, record=dataclasses.replace(one.record, started_at=when)) for one in found
        ]
    (table,) = tabulate(results, "full", ("full",))
    for row in table.rows:
        assert row.score is not None and row.score.value == pytest.approx(0.8) and row.seeds_tried == 1
    assert any("3 results in the store come from older code" in note for note in table.footnotes)


def test_two_rates_of_one_method_are_two_rows_with_names(
    make_run: Callable[..., Run], tmp_path: Path
) -> None:
    results = [result(make_run("lora", learning_rate=rate), tmp_path, 0.5) for rate in (1e-3, 2e-3)]
    (table,) = tabulate(results, "full", ("full",))
    assert [row.label for row in table.rows] == ["lora at 0.001", "lora at 0.002"]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"machine": "another"}, "different machines or library versions"),
        ({"libraries": {**LIBRARIES, "torch": "2.11"}}, "different machines or library versions"),
        ({"threads": 8}, "different numbers of threads"),
        ({"jobs": 2}, "Up to 2 runs at once"),
    ],
)
def test_guards_of_the_place(
    make_run: Callable[..., Run], tmp_path: Path, changes: dict[str, Any], said: str
) -> None:
    one, two = (result(make_run("lora", seed=seed), tmp_path, 0.5) for seed in range(2))
    (table,) = tabulate([one, two], "full", ())
    assert not any(said in note for note in table.footnotes)
    moved = dataclasses.replace(two.record, environment={**ENVIRONMENT, **changes})
    (table,) = tabulate([one, dataclasses.replace(two, record=moved)], "full", ())
    assert any(said in note for note in table.footnotes)


def test_a_library_that_one_run_uses_is_no_other_version(
    make_run: Callable[..., Run], tmp_path: Path
) -> None:
    one, two = (result(make_run("lora", seed=seed), tmp_path, 0.5) for seed in range(2))
    more = {**ENVIRONMENT, "libraries": {**LIBRARIES, "bitsandbytes": "0.50"}}
    moved = dataclasses.replace(two.record, environment=more)
    (table,) = tabulate([one, dataclasses.replace(two, record=moved)], "full", ())
    assert not any("library versions" in note for note in table.footnotes)


@pytest.mark.parametrize(
    ("seen", "said"),
    [
        ({"others_cpu_share": 0.4}, "Other processes took more than 10%"),
        ({"others_on_gpu": 1}, "Another process was using the GPU"),
    ],
)
def test_guards_of_the_neighbours(
    make_run: Callable[..., Run], tmp_path: Path, seen: dict[str, Any], said: str
) -> None:
    one = result(make_run("lora"), tmp_path, 0.5)
    busy = dataclasses.replace(one.record, training={**(one.record.training or {}), **seen})
    (table,) = tabulate([dataclasses.replace(one, record=busy)], "full", ())
    assert any(said in note for note in table.footnotes)


def test_a_claim_that_does_not_hold_is_no_good_end(make_run: Callable[..., Run], tmp_path: Path) -> None:
    """The command then ends with status 1, as it does for a run that failed."""
    kept = result(make_run("lora"), tmp_path, 0.8)
    broken = result(make_run("full"), tmp_path, 0.8, merge="fail")
    assert Compared([kept], [], None, None).good
    assert not Compared([kept, broken], [], None, None).good


@pytest.mark.parametrize("width", [100, 80, 50])
def test_compact_fits_and_keeps_what_warns(
    tables: list[Table], width: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    said = text(tables, "compact")
    lines = said.splitlines()
    assert max(map(len, lines)) <= width and "\x1b" not in said
    header = next(line for line in lines if line.startswith("method"))
    assert ("slow-down %" in header) == (width > 90) and "vs full" in header
    whole = " ".join(said.split())
    for warning in (
        "lora FAILS its check 'merge'",
        "OutOfMemoryError: too large",
        "no roles",
        "not tuned here",
    ):
        assert warning in whole, warning
    for explained in ("the best alone", "Train peak: resident", "Noise floor", "Checks (passed/claimed)"):
        assert explained in text(tables, "markdown") and explained not in whole
    assert "--format markdown" in whole


def test_a_terminal_that_is_too_narrow_gets_the_compact_one(
    tables: list[Table], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    wide, narrow = text(tables, "markdown"), text(tables, "compact")
    assert render(tables, "auto") == wide  # piped
    monkeypatch.setenv("TERM", "xterm")
    for stdout in ("sys.stdout", "sys.__stdout__"):
        monkeypatch.setattr(stdout, SimpleNamespace(isatty=lambda: True, write=len, flush=bool))
    assert "\x1b[1m" in str(render(tables, "auto")) and render(tables, "auto", shown=False) == wide
    monkeypatch.setenv("NO_COLOR", "1")
    assert render(tables, "auto") == narrow
    monkeypatch.setenv("COLUMNS", "400")
    assert render(tables, "auto") == render(tables, "markdown") == wide


@pytest.mark.parametrize("report", ["markdown", "latex", "compact"])
def test_an_error_in_units_keeps_its_digits(tables: list[Table], report: str) -> None:
    """Of an RMSE of .171 and one of .174 a table said 0.2 and 0.2."""
    assert " 81.0 " in text(tables, report)
    said = text([dataclasses.replace(tables[0], metric="rmse", unit="", is_share=False)], report)
    assert " 0.810 " in said and " -0.030 " in said


@pytest.mark.parametrize("scale", [1e-9, 1e12])
@pytest.mark.parametrize("report", ["markdown", "compact", "latex", "html"])
def test_an_error_in_units_far_from_one_keeps_its_digits_too(
    tables: list[Table], report: str, scale: float
) -> None:
    """In three digits behind the point a billionth is 0.000 in every row."""
    rows = [
        row
        if row.score is None
        else dataclasses.replace(
            row, score=dataclasses.replace(row.score, value=row.score.value * scale, parts=())
        )
        for row in tables[0].rows
    ]
    small = dataclasses.replace(tables[0], metric="rmse", unit="", is_share=False, rows=tuple(rows))
    first = next(row for row in rows if row.score is not None)
    assert first.score is not None
    assert f"{first.score.value:.3g}" in text([small], report)
