"""The process that talks to Ray: where measurements go, and what a plan made elsewhere calls its files."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("ray", reason="the engine ray needs Ray")

from peftbench.cluster.driver import Driver, _Task
from peftbench.engine.answers import ANSWER


def node(name: str, **resources: float) -> dict[str, Any]:
    return {"NodeID": name, "Resources": resources}


def test_one_node_measures_as_long_as_it_lives() -> None:
    nodes = [node("small", CPU=4, GPU=8), node("large", CPU=64), node("other", CPU=64, GPU=1)]
    driver = Driver(events=-1)
    assert driver._measuring_node(nodes, "cuda")["NodeID"] == "small"
    assert driver._measuring_node(nodes, "cpu")["NodeID"] == "other"
    assert driver._measuring_node([*nodes, node("larger", CPU=128)], "cpu")["NodeID"] == "other"
    assert driver._measuring_node(nodes[:2], "cpu")["NodeID"] == "large"


def test_a_plan_names_the_files_that_were_asked_for(tmp_path: Path) -> None:
    there = "/cache/travelled/1f/data.csv"
    run = {"task": f"csv:path={there}", "places": [there], "home": None}
    planned = {"planned": [{"run": run}, {"run": {"task": "synthetic", "places": [], "home": None}}]}
    (tmp_path / ANSWER).write_text(json.dumps(planned))
    task = _Task(1, tmp_path, {"name": "plan", "asked": {}}, {}, names={"data.csv": there})
    Driver(events=-1)._name_as_asked(task)
    found = json.loads((tmp_path / ANSWER).read_text())["planned"]
    assert found[0]["run"] == {"task": "csv:path=data.csv", "places": ["data.csv"], "home": os.getcwd()}
    assert found[1]["run"]["home"] is None
