"""Where the reference can't run another method stands in, and the caption says so."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from peftbench.records.record import Record
from peftbench.records.results import Result
from peftbench.records.runs import Run
from peftbench.tables.tabulate import tabulate

from ..support.results import result, text

WHY = "it does not fit: 108.0 GB (weights 27.0, gradients 27.0, optimizer 54.0) before any activation"


@pytest.mark.parametrize("others", [("lora", "ia3"), ("ia3", "bitfit")])
def test_differences_to_a_reference_that_could_not_run(
    others: tuple[str, ...], make_run: Callable[..., Run], tmp_path: Path
) -> None:
    refused = make_run("full")
    full = Result(Record(refused, refused.key, "not supported", reason=WHY), None)
    good = [result(make_run(method, seed=s), tmp_path, 0.7) for method in others for s in range(2)]
    (table,) = tabulate([full, *good], "full", ("full", "head"))
    assert WHY in text([table], "markdown")
    if "lora" in others:
        assert table.reference == "lora"
        assert " Differences are to lora at " in table.caption
        assert table.caption.endswith(", because full has no finished run.")
        (alone,) = tabulate(good, "lora", ("full", "head"))
        assert alone.rows == table.rows[:2]
    else:
        assert table.reference is None and "Differences" not in table.caption
        said = "No differences: full has no finished run; name another method with --baseline."
        assert table.footnotes[0] == said
