"""Merging is tested where models read a layer's type."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from peftbench.execution.execute import execute
from peftbench.records.runs import Conditions, Run


def test_a_merge_is_tested_where_the_model_reads_the_type_of_its_layer(
    make_run: Callable[..., Run], checkpoint: Callable[[str], str], tmp_path: Path
) -> None:
    """T5's feed-forward does."""
    record = execute(make_run("ia3", checkpoint("t5"), learning_rate=1e-2), tmp_path, Conditions(threads=1))
    merge = next(one for one in record.checks or () if one["name"] == "merge")
    assert merge["outcome"] == "pass", merge
