"""What a reader of an export is told beside how it is loaded: what the outputs stand for, and what goes in."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from peftbench import UsageError
from peftbench.plugins.build import build_task

from ..support.exported import Of, exported, trained

__all__ = ["trained"]  # a fixture


def rows(tmp_path: Path, labels: str = "bad good so-so", number: float = 1.0) -> Path:
    """60 rows with a label and a number."""
    file, names = tmp_path / "rows.csv", labels.split()
    lines = [f"it is {i},{names[i % len(names)]},{500 + number * i}" for i in range(60)]
    file.write_text("\n".join(["text,label,number", *lines]) + "\n")
    return file


def test_the_labels_keep_their_names(trained: Any, checkpoint: Of, tmp_path: Path) -> None:
    _, record = trained("lora", checkpoint("bert"), task=f"csv:path={rows(tmp_path)}")
    assert (
        "Its outputs: 0 `bad`, 1 `good`, 2 `so-so`." in (exported(record, tmp_path) / "README.md").read_text()
    )
    config = json.loads((exported(record, tmp_path, merged=True) / "config.json").read_text())
    assert config["id2label"] == {"0": "bad", "1": "good", "2": "so-so"}
    assert config["label2id"] == {"bad": 0, "good": 1, "so-so": 2}


def test_names_of_other_data_are_not_given_to_its_outputs(
    trained: Any, checkpoint: Of, tmp_path: Path
) -> None:
    _, record = trained("lora", checkpoint("bert"), task=f"csv:path={rows(tmp_path)}")
    rows(tmp_path, "good so-so very-bad")
    folder = exported(record, tmp_path, merged=True)
    assert json.loads((folder / "config.json").read_text())["id2label"]["0"] == "LABEL_0"
    card = (folder / "README.md").read_text()
    assert "The task or its data changed since the run" in card and "`very-bad`" not in card


def test_a_head_of_other_data_is_one_line(trained: Any, checkpoint: Of, tmp_path: Path) -> None:
    _, record = trained("lora", checkpoint("bert"), task=f"csv:path={rows(tmp_path)}")
    rows(tmp_path, "bad good so-so fine")
    with pytest.raises(UsageError, match=r"shape \[3.*now asks for \[4.*its data changed since the run"):
        exported(record, tmp_path)


@pytest.mark.parametrize("merged", [False, True])
def test_a_number_is_in_the_tasks_unit_by_what_the_card_says(
    merged: bool, trained: Any, checkpoint: Of, tmp_path: Path
) -> None:
    task = f"csv:path={rows(tmp_path, number=7.0)}:value=number"
    _, record = trained("lora", checkpoint("bert"), task=task, learns=False)
    folder = exported(record, tmp_path, merged)
    found = re.search(
        r"its output times ([-\d.e+]+) plus ([-\d.e+]+)\.$", (folder / "README.md").read_text(), re.MULTILINE
    )
    assert found is not None
    spread, centre = map(float, found.groups())
    objective: Any = build_task(task).objective
    its = objective.predict(torch.tensor([[0.25]]), {"labels": torch.tensor([0.0])})["prediction"]
    assert its[0] == 0.25 * spread + centre and spread > 100
    if merged:
        assert json.loads((folder / "config.json").read_text())["problem_type"] == "regression"


def test_a_prompt_and_its_end(trained: Any, checkpoint: Of, tmp_path: Path, pairs: str) -> None:
    _, record = trained("lora", checkpoint("gpt2"), task=f"{pairs}:beams=2:max_new_tokens=7", learns=False)
    folder = exported(record, tmp_path)
    card = (folder / "README.md").read_text()
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    end = tokenizer.sep_token_id
    assert f"A prompt ends with `[SEP]` (token {end})" in card
    assert "with beams 2, max_new_tokens 7, length_penalty 1, no_repeat_ngram 0." in card
    adds = tokenizer("a")["input_ids"][-1] == end
    assert (f'`tokenizer(prompt)["input_ids"] + [{end}]`' in card) is not adds
