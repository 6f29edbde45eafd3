"""A measure that is declared once is found wherever figures are shown; energy is one of them."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import typer

from peftbench.cli.app import app
from peftbench.cli.report import limit_options
from peftbench.records.record import Record
from peftbench.records.results import Result
from peftbench.records.runs import Run
from peftbench.render.advice import advice_text
from peftbench.render.columns import arranged
from peftbench.render.pairs import pairs_text
from peftbench.tables import quantities
from peftbench.tables.advice import advise_on, limits_of
from peftbench.tables.axes import axes_of
from peftbench.tables.gate import FAILED, PASSED, judge, limit_of
from peftbench.tables.limits import Limit, count
from peftbench.tables.pairs import pair
from peftbench.tables.quantities import MEASURES, STORED, Measure
from peftbench.tables.tabulate import tabulate

from ..support.results import result, text


def _heat_k(runs: Sequence[Record]) -> float | None:
    known = [run.meters["heat_k"] for run in runs if run.meters]
    return sum(known) / len(known) if known else None


MADE_UP = Measure(
    "heat", "heat_k", "heat", "mK", _heat_k, scale=1e-3, form=",.2f", note="felt by hand",
    limit=Limit("--max-heat", "Of a hand on the case.", count),
)  # fmt: skip


@dataclass(frozen=True)
class Case:
    """A measure, and how its figures are told."""

    name: str
    raw: str
    kept: float  # of lora, as CSV has it
    cells: tuple[str, str]  # lora, full
    header: str
    axis: str
    note: str
    limit: tuple[str, str, str]  # the option, its words, and what is said of what exceeds it
    sections: Callable[[float], dict[str, Any]]  # of a record, by how much of it there is


CASES = [
    Case(
        "heat", "heat_k", 0.00202, ("2.02", "4.04"), "heat mK", "heat, mK", "- Heat: felt by hand.",
        ("--max-heat", "0.003", "full: heat 4.04 mK, above 3.00 mK"),
        lambda much: {"meters": {"heat_k": 0.002 * much}},
    ),
    Case(
        "energy", "energy_per_item_j", 0.01515, ("0.0152", "0.0303"), "energy per item J", "energy per item, J",
        "- Energy per item: of scoring, over its items (a meter, other processes included).",
        ("--max-energy", "20mJ", "full: energy per item 0.0303 J, above 0.02 J"),
        lambda much: {"scoring": {"items": 200, "taken_by": "a meter", "energy_j": 3.0 * much}},
    ),
    Case(
        "train_energy", "train_energy_j", 404.0, ("404", "808"), "train energy J", "train energy, J",
        "- Train energy: of one training run (a meter, other processes included).",
        ("--max-train-energy", "0.5kJ", "full: train energy 808 J, above 500 J"),
        lambda much: {"training": {"fit_s": 1.0, "steps": 20, "taken_by": "a meter", "energy_j": 400.0 * much}},
    ),
]  # fmt: skip


@pytest.fixture
def runs(make_run: Callable[..., Run], tmp_path: Path) -> Callable[[str, Case | None, float], list[Result]]:
    """Two methods of three seeds in a folder of their own; `full` has twice of the case's measure, later seeds a little more."""

    def made(side: str, case: Case | None, much: float = 1.0) -> list[Result]:
        found = []
        for method, share, times in (("lora", 0.8, much), ("full", 0.85, 2 * much)):
            for seed in range(3):
                one = result(make_run(method, seed=seed), tmp_path / side, share, noise=seed)
                changes = {} if case is None else case.sections(times * (1 + seed / 100))
                found.append(dataclasses.replace(one, record=dataclasses.replace(one.record, **changes)))
        return found

    return made


@pytest.fixture(params=CASES, ids=lambda case: case.name)
def case(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Case:
    """The made-up measure is added where measures are declared, and nowhere else."""
    monkeypatch.setattr(quantities, "MEASURES", (*MEASURES, MADE_UP))
    found: Case = request.param
    return found


Runs = Callable[..., list[Result]]


def test_it_is_in_every_report(case: Case, runs: Runs) -> None:
    (table,) = tabulate(runs("a", case), "full", ("full",))
    markdown = text([table], "markdown").splitlines()
    headers, _, *body = (
        [cell.strip() for cell in line.split("|")] for line in markdown if line.startswith("|")
    )
    assert [line[headers.index(case.header)] for line in body] == list(case.cells)
    assert case.note in markdown
    row = next(csv.DictReader(io.StringIO(text([table], "csv"))))
    assert float(row[case.raw]) == pytest.approx(case.kept)
    assert json.loads(text([table], "json"))[0]["rows"][0][case.raw] == pytest.approx(case.kept)
    axis = next(one for one in axes_of(table) if one.name == case.name)
    assert axis.label == case.axis and all(
        value and value.high and value.high > value.value for value in axis.values
    )
    assert f'"name":"{case.name}","label":"{case.axis}"' in text([table], "html")
    assert f"<!-- {case.axis} -->" in text([table], "svg")
    for order, methods in ((case.name, ["lora", "full"]), (f"{case.name}:desc", ["full", "lora"])):
        (ordered,) = arranged([table], f"method,{case.name}", order)
        assert [one.method for one in ordered.shown_rows] == methods


def test_where_no_run_knows_it_nothing_speaks_of_it(case: Case, runs: Runs) -> None:
    (table,) = tabulate(runs("a", None), "full", ("full",))
    for report in ("markdown", "latex", "html", "svg"):
        said = text([table], report)
        assert case.header not in said and case.axis not in said and case.note not in said
    held = case.name == "train_energy"  # a column of every CSV since the first
    assert (case.raw in text([table], "csv")) == (case.raw in text([table], "json")) == held


def test_two_stores_are_compared_by_it_and_its_gate_holds(case: Case, runs: Runs) -> None:
    paired = pair(runs("a", case), runs("b", case, 1.1))
    (figure,) = paired.pairs[0].named(case.name)
    assert figure.label == case.header and figure.b / figure.a == pytest.approx(1.1) and not figure.seedless
    said = pairs_text(paired, [], "a", "b")
    assert case.header in said and "+10.0 " in said
    verdicts = judge([limit_of(f"{case.name}:{change}") for change in ("+5%", "+20%")], paired.pairs)
    assert [verdict.outcome for verdict in verdicts] == [FAILED, PASSED]
    assert case.name in pair(runs("c", case), runs("d", None)).pairs[0].lacking


def test_advice_is_limited_by_it(case: Case, runs: Runs) -> None:
    option, words, said = case.limit
    allowed = limits_of({case.name: words})
    (advice,) = advise_on(runs("a", case), "full", allowed)
    assert advice.excluded == (said,) and "use lora" in advice_text([advice])
    (unknown,) = advise_on(runs("b", None), "full", allowed)
    label = case.axis.partition(",")[0]
    assert unknown.left is None and unknown.unknown == (f"lora: {label}", f"full: {label}")
    assert option.removeprefix("--").replace("-", "_") in {parameter.name for parameter in limit_options()}


def test_the_program_has_the_limits_that_are_declared() -> None:
    command: Any = typer.main.get_command(app)
    report = command.get_command(command.make_context("peftbench", [], resilient_parsing=True), "report")
    known = {option for parameter in report.params for option in parameter.opts}
    declared = {one.limit.option for one in MEASURES if one.limit}
    assert {option for option in known if option.startswith("--max-")} == declared
    assert {"--max-vram", "--max-slowdown", "--max-stored", "--max-trained", "--max-energy"} <= declared


def test_names_are_each_measures_own() -> None:
    for names in ([one.name for one in MEASURES], [one.raw for one in MEASURES if one.raw]):
        assert len(names) == len(set(names))
    assert STORED.with_unit(297616) == "298 kB" and STORED.axis == "stored, kB"
