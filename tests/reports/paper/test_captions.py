"""Tables of scores of the paper's experiments and what the captions above them say."""

from __future__ import annotations

import dataclasses
from types import SimpleNamespace
from typing import Any

import pytest
from peftbench.reports.paper._score_table import caption, score_table
from peftbench.reports.paper._scored import Setting

from ...support.scored import scored


def test_a_failed_cell_says_so_and_the_caption_says_why() -> None:
    one = scored({"FT": 0.9})
    one.reasons["BitFit"] = "this model has no biases."
    table = score_table("Score", ["FT", "BitFit"], {"t": one}, {"BitFit": ("71.3",)}, ("SST-2",))
    assert [cell.text for cell in table.body[1]] == ["BitFit", "–", "", "failed", "71.3"]
    assert table.headers[3] == "t, accuracy x100"
    assert caption({"t": one}).endswith(" BitFit failed on t: this model has no biases.")


@pytest.mark.parametrize(
    ("losses", "spoilt"),
    [([1.0, 2.0, 2.0, 1.2], True), ([1.0, 2.0, 2.0, 1.05], False), ([9.0, 4.0, 3.0, 2.0], True)],
)
def test_the_caption_names_what_training_spoilt(losses: list[float], spoilt: bool) -> None:
    """One that begins from random vectors and falls, but not to where the model began, too."""
    one = scored({"LoRA": 0.2, "PreLayer": 0.1})
    own = SimpleNamespace(**{**vars(one.results["LoRA"][0].record), "training": {"losses": losses}})
    result: Any = SimpleNamespace(record=own)
    one.results["PreLayer"] = [result]
    said = " PreLayer on t ended at a training loss above the untrained model's in 1 of 1 runs: this budget or rate does not suit it."
    assert caption({"t": one}).endswith(said) is spoilt


def test_the_caption_says_how_much_few_seeds_tell() -> None:
    one = scored({"FT": 0.9})
    said = "A verdict on 2 seeds is a first look; one to cite needs 5."
    assert said not in caption({"t": one})
    assert said in caption({"t": dataclasses.replace(one, setting=Setting("m", "t", steps=4, seeds=2))})


def test_each_metric_is_shown_in_its_own_units() -> None:
    """A share times 100, a loss and CIDEr as they are; and how many seeds are left."""
    one = scored({"a": 0.5}, {"a": 2.5})
    assert one.cell("a").text.startswith("50.0 ±") and one.cell("a", "nll").text.startswith("2.50 ±")
    assert one.percent_of("cider") == 1 and one.percent_of("rouge_l") == 100
    one.runs["a"] = 5
    assert one.cell("a").text.endswith("(1/5 seeds)")
