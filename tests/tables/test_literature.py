"""Printed results: the paper's table, a file of one's own, PEFT's result files of both generations, and what the items' error leaves of ranks."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from peftbench import UsageError
from peftbench.plugins.build import build_task
from peftbench.render.literature import literature_text
from peftbench.tables.literature import (
    COLUMNS,
    TEST_ITEMS,
    PublishedRow,
    published_rows,
    rank_ranges,
    wilson_half_width,
)
from peftbench.tables.table import Table

from ..support import results
from ..support.commands import peftbench
from ..support.results import STRANGE

tables = results.tables  # the fixture


def placed(table: Table, task: str, model: str) -> Table:
    """The same figures, of another task and model."""
    return dataclasses.replace(table, setting=dataclasses.replace(table.setting, task=task, model=model))


def peft_result(**train: Any) -> dict[str, Any]:
    """A result file as PEFT's harness writes it, with the fields that are read."""
    return {
        "run_info": {
            "created_at": "2026-07-20T10:00:00+00:00",
            "experiment_name": "lora/rank32",
            "error_msg": "",
            "train_config": {
                "model_id": "meta-llama/Llama-3.2-3B", "dtype": "bfloat16", "max_seq_length": 768, "batch_size": 4, "max_steps": 5000,
                "seed": 0, "optimizer_kwargs": {"lr": 1e-4},
            },
        },
        "train_info": {
            "accelerator_memory_max": 22_290_000_000, "train_time": 942.0, "file_size": 36_711_000, "num_trainable_params": 9_175_040,
            "status": "success", "metrics": [{"step": 250, "valid accuracy": 0.3}, {"step": 5000, "test accuracy": 0.478, "forgetting": 0.05}],
            **train,
        },
        "meta_info": {
            "dataset_info": {"metamath": {"sha": "a"}, "gsm8k": {"sha": "b"}},
            "package_info": {"peft-version": "0.20"}, "system_info": {"accelerator": "NVIDIA L40S"},
        },
    }  # fmt: skip


def written(folder: Path, name: str, content: Any) -> Path:
    file = folder / name
    file.write_text(json.dumps(content), encoding="utf-8")
    return file


def test_both_generations_of_peft_files_are_read(tmp_path: Path) -> None:
    new = peft_result()
    old = peft_result()
    old["train_info"]["cuda_memory_max"] = old["train_info"].pop("accelerator_memory_max")
    failed = peft_result(status="failed", metrics=[])
    failed["run_info"]["error_msg"] = "out of memory"
    for name, content in (("a.json", new), ("b.json", old), ("c.json", failed)):
        written(tmp_path, name, content)
    one, other, lost = published_rows(str(tmp_path))
    assert one == other and one.peak_bytes == 22_290_000_000
    assert (one.method, one.value, one.parameters, one.spread) == (
        "lora/rank32",
        47.8,
        "9,175,040",
        "2.7 over items",
    )
    assert (
        "learning rate 0.0001" in one.settings and "seed 0" in one.settings and "NVIDIA L40S" in one.settings
    )
    assert lost.value is None and "failed: out of memory" in lost.settings
    image = peft_result(metrics=[{"test dino_similarity": 0.743, "drift": 0.288}])
    image["meta_info"]["dataset_info"] = {"cat": {"sha": "c"}}
    (drawn,) = published_rows(str(written(tmp_path, "d.json", image)))
    assert (drawn.metric, drawn.value, drawn.spread) == ("test dino_similarity", 0.743, "")


def test_the_papers_rows_stand_below_the_task_and_say_what_differs(tables: list[Table]) -> None:
    rows = published_rows("lora-paper")
    assert len(rows) == 204
    base = next(r for r in rows if r.task == "glue-sst2" and r.model == "roberta-base" and r.method == "LoRA")
    assert (base.value, base.spread, base.parameters) == (95.1, "0.2", "0.3M")
    table = placed(tables[0], "glue-sst2", "minilm-l6")
    said = literature_text(rows, [table])
    assert "### Published beside glue-sst2 with minilm-l6" in said
    assert (
        "95.1 ±0.2" in said
        and "Differs: model deberta-v2-xxlarge, roberta-base, roberta-large there, minilm-l6 here" in said
    )
    assert "median of 5 seeds" in said and "lora 81.0 ±" in said
    assert "glue-cola" not in said and "e2e-nlg" not in said
    other = PublishedRow("PEFT", "metamath", "Llama", "lora/rank32", "9", "test accuracy", 47.8, "", "")
    both = literature_text([*rows, other], [table])
    assert (
        both.startswith(said) and "### Published: metamath" in both
    )  # what stands beside nothing is not lost


def test_the_rows_of_the_peft_library_have_the_name_of_its_metric_here() -> None:
    rows = published_rows("peft-metamathqa")
    metrics = {metric.name for metric in build_task("metamath-gsm8k").objective.reported}
    assert len(rows) == 63 and {row.task for row in rows} == {"metamath-gsm8k"}
    assert {row.metric for row in rows} == {"peft_accuracy"} <= metrics
    lora = next(row for row in rows if row.method == "lora/rank32")
    assert (lora.value, lora.spread, lora.parameters) == (47.8, "2.7 over items", "9,175,040")
    half = 100 * wilson_half_width(0.478, TEST_ITEMS["gsm8k"])
    assert f"{half:.1f}" == "2.7"


def test_strange_names_stay_text_below_the_table_too(tables: list[Table]) -> None:
    row = PublishedRow(STRANGE, "a-task", STRANGE, STRANGE, "1", "accuracy", 50.0, "", STRANGE)
    said = literature_text([row], [placed(tables[0], "a-task", STRANGE)])
    assert "<script" not in said and "\x1b" not in said and "&lt;script>" in said


def test_what_can_not_be_read_says_what_it_needs(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "other.csv").write_text("a,b\n1,2\n", encoding="utf-8")
    line = ["s", "t", "task", "m", "x", "1", "accuracy", "many", "", ""]
    (tmp_path / "words.csv").write_text(f"{','.join(COLUMNS)}\n{','.join(line)}\n", encoding="utf-8")
    (tmp_path / "short.csv").write_text(f"\ufeff{','.join(COLUMNS)}\ns,t,task\n", encoding="utf-8")
    line[7] = "nan"
    (tmp_path / "nan.csv").write_text(f"{','.join(COLUMNS)}\n{','.join(line)}\n", encoding="utf-8")
    for asked, said in (
        ("lora-papr", "did you mean 'lora-paper'"),
        (str(tmp_path / "empty"), "holds no"),
        (str(tmp_path / "other.csv"), "lacks the columns source, table"),
        (str(tmp_path / "words.csv"), "line 2: value 'many' is no number"),
        (str(written(tmp_path, "list.json", [1])), "no result file of PEFT"),
        (
            str(written(tmp_path, "null.json", {**peft_result(), "run_info": {"train_config": None}})),
            "no result file",
        ),
        (str(tmp_path / "short.csv"), "line 2: cells are missing"),
        (str(tmp_path / "nan.csv"), "line 2: value 'nan' is no number"),
    ):
        with pytest.raises(UsageError, match=said):
            published_rows(asked)
    wrong = peftbench("report", "--published", "lora-paper", "--format", "csv", cwd=tmp_path)
    assert wrong.returncode == 2 and "--published works only with --format markdown" in wrong.stderr


def test_ranks_are_as_open_as_the_items_leave_them() -> None:
    # By hand, n = 1319: .526 and .478 differ by z = 2.47, p = .014; .526 and .34 by z = 9.7.
    found = {
        rank.method: (rank.best, rank.worst)
        for rank in rank_ranges({"a": 0.526, "b": 0.478, "c": 0.34}, 1319)
    }
    assert found == {"a": (1, 1), "b": (2, 2), "c": (3, 3)}  # Holm over three: .014 is the largest, times one
    found = {
        rank.method: (rank.best, rank.worst) for rank in rank_ranges({"a": 0.50, "b": 0.478, "c": 0.34}, 1319)
    }
    assert found == {"a": (1, 2), "b": (1, 2), "c": (3, 3)}
    assert [rank.best for rank in rank_ranges({"a": 0.0, "b": 0.0}, 1319)] == [1, 1]
    assert wilson_half_width(0.478, 1319) == pytest.approx(0.0269, abs=1e-4)
