"""A row with a seed that learned nothing: it is counted, both means stand there, and nothing is concluded from it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection
from pathlib import Path

import pytest

from peftbench.records.results import Result
from peftbench.records.runs import Run
from peftbench.render.advice import advice_text
from peftbench.tables.advice import advise_on
from peftbench.tables.axes import axes_of
from peftbench.tables.gate import FAILED, INCONCLUSIVE, judge, limit_of
from peftbench.tables.pairs import pair
from peftbench.tables.pareto import OFF, SURELY, front
from peftbench.tables.summary import summarise
from peftbench.tables.table import Table
from peftbench.tables.tabulate import tables_of

from ..support.results import result, text

Make = Callable[..., list[Result]]


@pytest.fixture
def runs(make_run: Callable[..., Run], tmp_path: Path) -> Make:
    """Three seeds of full, lora and prefix; those of `failed` end at chance."""

    def made(side: str, failed: Collection[tuple[str, int]] = ()) -> list[Result]:
        found = []
        for method, share in (("full", 0.9), ("lora", 0.8), ("prefix", 0.85)):
            for seed in range(3):
                lost = (method, seed) in failed
                one = result(make_run(method, seed=seed), tmp_path / side, 0.5 if lost else share, noise=seed)
                training = {**(one.record.training or {}), "losses": [0.69 if lost else 0.3] * 20}
                constant: dict[str, float | None] = {"loss": 0.693, "score": 0.5}
                record = dataclasses.replace(one.record, training=training, constant=constant)
                found.append(dataclasses.replace(one, record=record))
        return found

    return made


def test_a_failed_seed_is_counted_and_takes_p_and_mark(runs: Make) -> None:
    (table,) = tables_of(runs("a", [("prefix", 1)]))
    rows = {row.method: row for row in table.rows}
    prefix = rows["prefix"]
    assert list(prefix.failed_seeds) == [1] and prefix.p_holm is None and prefix.mark == ""
    assert prefix.score is not None and prefix.score.value == pytest.approx((0.85 + 0.51 + 0.87) / 3)
    assert prefix.score_of_learned is not None and prefix.score_of_learned.value == pytest.approx(0.86)
    assert prefix.difference is not None and prefix.difference.seeds == 3
    # The family is one test smaller, and the best is found without it.
    (without,) = tables_of([r for r in runs("b") if r.record.run.method != "prefix"])
    lora = next(row for row in without.rows if row.method == "lora")
    assert rows["lora"].p_holm == lora.p_holm is not None and rows["full"].mark == "best"
    said = text([table], "markdown")
    assert "prefix 1 of 3 seeds failed" in said
    assert "1 of 3 seeds failed (seed 1: its loss ends at 0.69" in said
    assert "74.3 over all, 86.0 over those that learned." in said


def test_a_reference_with_failed_seeds_gives_no_p(runs: Make) -> None:
    (table,) = tables_of(runs("a", [("full", 0)]))
    assert all(row.p_holm is None for row in table.rows)
    (whole,) = tables_of(runs("b", [("prefix", seed) for seed in range(3)]))
    prefix = next(row for row in whole.rows if row.method == "prefix")
    assert len(prefix.failed_seeds) == 3 and prefix.score_of_learned is None and prefix.p_holm is None
    assert not any("is significant (p below" in note for note in table.footnotes)  # no test is made here


def test_what_is_decided_is_said_of_the_seeds_that_both_rows_have(runs: Make) -> None:
    """A table of four seeds whose differences use two of them told what two decide, as of four."""
    found = [
        dataclasses.replace(r, record=dataclasses.replace(r.record, run=dataclasses.replace(r.record.run, seed=5)))
        if (r.record.run.method, r.record.run.seed) == ("lora", 2)
        else r
        for r in runs("a")
        if r.record.run.method != "prefix"
    ]  # fmt: skip
    (table,) = tables_of(found)
    assert any(note.startswith("Quality: mean over 4 seeds") for note in table.footnotes)
    assert any(note.startswith("With 2 seeds the one difference is") for note in table.footnotes)


def test_it_decides_no_task_and_has_no_place_on_a_front(runs: Make) -> None:
    def tables(side: str, *failed: tuple[str, int]) -> list[Table]:
        other = [
            dataclasses.replace(r, record=dataclasses.replace(r.record, run=dataclasses.replace(r.record.run, task="copy")))
            for r in runs(f"{side} copy")
        ]  # fmt: skip
        return tables_of([*runs(side, failed), *other])

    def losses(found: list[Table]) -> dict[str, int]:
        return {method.method: method.losses for method in summarise(found)[0].methods}

    assert losses(tables("a")) == {"full": 0, "lora": 2, "prefix": 2}
    all_seeds = [("prefix", seed) for seed in range(3)]
    failed = tables("b", *all_seeds)
    assert losses(failed) == {"full": 0, "lora": 2, "prefix": 1}
    assert losses(tables("c", ("full", 0))) == {"full": 0, "lora": 1, "prefix": 1}
    table = next(t for t in failed if t.task != "copy")
    axes = {axis.name: axis for axis in axes_of(table)}
    assert front(table, axes["step"], axes["score"]) == [OFF, None, SURELY]


def test_it_takes_no_place_in_advice(runs: Make) -> None:
    said = advice_text(advise_on(runs("a", [("full", 1)]), "full", {}))
    assert "full: 1 of 3 seeds failed" in said and "use prefix" in said


def test_a_seed_that_learned_in_a_alone_fails_the_gate(runs: Make) -> None:
    paired = pair(runs("a"), runs("b", [("prefix", 1)]))
    (found,) = judge([limit_of("accuracy:-50")], paired.pairs)
    assert found.outcome == FAILED and "1 of 3 seeds of B learned nothing, 0 of 3 of A" in found.reasons[0]
    by_method = {one.method: one.p_holm for one in paired.pairs}
    assert by_method["prefix"] is None and by_method["lora"] is not None
    both = pair(runs("c", [("prefix", 1)]), runs("d", [("prefix", 2)]))
    assert all(one.problem is None for one in both.pairs)
    assert judge([limit_of("accuracy:-1.0")], both.pairs)[0].outcome == INCONCLUSIVE


def test_what_the_seeds_can_decide_is_said(runs: Make) -> None:
    (table,) = tables_of(runs("a"))
    assert any(
        note.startswith("With 3 seeds a difference among these 2 is significant") for note in table.footnotes
    )
    (one,) = tables_of([r for r in runs("b") if r.record.run.seed == 0])
    assert not any("is significant (p below" in note for note in one.footnotes)
