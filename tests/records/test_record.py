"""Records read back as they were, in strict JSON."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from typing import Any

import pytest

from peftbench import PeftbenchError
from peftbench.records.record import Record
from peftbench.records.runs import Run

Make = Callable[..., Run]
PLACE = {"machine": "m", "gpu": None, "processor": "p", "threads": 1}


def test_a_record_reads_back_as_it_was(make_run: Make) -> None:
    run = make_run()
    record = Record(
        run, run.key, "ok", training={"losses": [1.0, 0.5], "steps": 2}, quality={"accuracy": 0.75}
    )
    assert Record.from_text(record.to_text()) == record


def test_json_is_strict(make_run: Make) -> None:
    run = make_run()
    text = Record(run, run.key, "failed", quality={"a": float("nan"), "b": float("inf")}).to_text()
    assert json.loads(text, parse_constant=lambda name: pytest.fail(name))["quality"] == {
        "a": None,
        "b": None,
    }


@pytest.mark.parametrize(
    ("place", "said"),
    [
        ([], "it has 'new', which this version of the program does not know: a newer one wrote it"),
        (["checks", 0], "its checks has 'new', which"),
        (["sequence"], "its sequence has 'new', which"),
        (["run"], "no record that this version of the program reads: Run has no field 'new'"),
    ],
)
def test_what_a_newer_version_wrote_is_said(make_run: Make, place: list[Any], said: str) -> None:
    run = make_run()
    checks = [{"name": "merge", "outcome": "pass", "detail": ""}]
    record = Record(run, run.key, "ok", checks=checks, sequence={"resolve": 1.0, "first": 3, "cap": 9})
    data = json.loads(record.to_text())
    inner = data
    for step in place:
        inner = inner[step]
    inner["new"] = 1
    with pytest.raises(PeftbenchError, match=f"^{said}"):
        Record.from_text(json.dumps(data))


def test_schemas_are_named() -> None:
    with pytest.raises(PeftbenchError, match="schema 7, this program reads 4"):
        Record.from_text('{"schema": 7}')


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"quality": {"accuracy": float("nan")}}, "its quality.accuracy is not a number"),
        ({"training": {"steps": 1, "step_s": ["1"]}}, "its training.step_s is not a list of numbers"),
        ({"training": {"steps": 1, "step_s": [0.0]}}, "its training.step_s holds 0.0, which is not above 0"),
        ({"training": {"steps": 1, "step_s": [1.0], "tokens": [3]}}, "its training lacks data_s"),
        ({"metric": {"name": "accuracy"}}, "its metric lacks is_share"),
        ({"checks": {"name": "merge"}}, "its checks is not a list"),
        ({"checks": [{"name": "merge", "outcome": "fine", "detail": ""}]}, "the outcome 'fine' of a check"),
        ({"status": "fine"}, "its status is 'fine'"),
        ({"environment": {"libraries": {}}}, "its environment lacks threads"),
        ({"environment": {**PLACE, "libraries": ["torch"]}}, "its environment.libraries is not an object"),
        ({"environment": {**PLACE, "libraries": {"python": "3"}}}, "its environment.libraries lacks torch"),
        ({"started_at": None}, "its started_at is not text"),
    ],
)
def test_a_section_of_another_shape_is_named(make_run: Make, changes: dict[str, Any], said: str) -> None:
    run = make_run()
    text = dataclasses.replace(Record(run, run.key, "ok"), **changes).to_text()
    with pytest.raises(PeftbenchError, match=said):
        Record.from_text(text)


def test_a_gradient_norm_that_was_not_finite_is_known_as_unknown(make_run: Make) -> None:
    steps = {"steps": 1, "step_s": [1.0], "data_s": [0.0], "tokens": [3], "gradient_norms": [float("inf")]}
    run = make_run()
    text = Record(run, run.key, "ok", training=steps).to_text()
    assert (Record.from_text(text).training or {})["gradient_norms"] == [None]


def test_json_of_others_with_nan_reads_as_null(make_run: Make) -> None:
    run = make_run()
    text = Record(run, run.key, "failed", wall_s=1.0).to_text().replace('"wall_s": 1.0', '"wall_s": NaN')
    assert Record.from_text(text).wall_s is None


def test_a_field_of_a_run_of_another_type_is_named(make_run: Make) -> None:
    run = make_run()
    for before, after, said in (('"seed": 0', '"seed": "0"', "seed is '0', not of type int"),
                                ('"plugins": []', '"plugins": null', "plugins is not a list"),
                                ('"steps": 5', '"steps": true', "steps is True, not of type int")):  # fmt: skip
        text = Record(run, run.key, "ok").to_text().replace(before, after)
        with pytest.raises(PeftbenchError, match=said):
            Record.from_text(text)
