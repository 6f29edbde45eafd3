"""Each option is declared once: the command line, `peftbench.run`, the worker's JSON and the docs have the same ones."""

from __future__ import annotations

import dataclasses
import inspect
import json
import re
from pathlib import Path
from typing import Any

import pytest

import peftbench
from peftbench.cli import app
from peftbench.comparison.latency_request import LatencyRequest
from peftbench.comparison.request import Comparison, check_request
from peftbench.comparison.session import LATENCY_OPTIONS, RUN_OPTIONS, Printed, Session
from peftbench.engine.sweep import Execution
from peftbench.errors import UsageError
from peftbench.inspection.options_page import options_page
from peftbench.option import Option, options_of, read
from peftbench.option_types import FLAG, PATHS

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "options.md").read_text(encoding="utf-8")
PRINTED = options_of(Printed)
OPTIONS = {"run": [*RUN_OPTIONS, *PRINTED], "latency": [*LATENCY_OPTIONS, *PRINTED]}


def test_every_field_is_an_option() -> None:
    asked = (Comparison, Execution, Session, Printed, LatencyRequest)
    without = {f.name for cls in asked for f in dataclasses.fields(cls) if "option" not in f.metadata}
    assert without == {
        "sequence",
        "excluded",
        "adds_baseline",
    }  # made of --until, --seeds and --max-seeds; said in a suite
    assert options_of(Comparison, Execution, Session) == RUN_OPTIONS
    assert {one.field for one in LATENCY_OPTIONS} >= {f.name for f in dataclasses.fields(LatencyRequest)}


@pytest.mark.parametrize("command", OPTIONS)
def test_the_command_line_has_what_is_declared(command: str) -> None:
    typed = {p.opts[0]: p for p in app._built(command).params if p.param_type_name == "option"}
    assert set(typed) == {one.flag for one in OPTIONS[command]}
    for one in OPTIONS[command]:
        parameter: Any = typed[one.flag]
        default = one.shown_default
        expected = (
            default if default is None or one.type is FLAG else [] if one.type is PATHS else str(default)
        )
        assert parameter.default == expected and parameter.help == one.help, one.flag
        assert parameter.name == one.parameter
        two = one.type is FLAG and one.default
        assert parameter.secondary_opts == ([f"--no-{one.name}"] if two else []), one.flag


def test_the_python_door_has_what_is_declared() -> None:
    parameters = inspect.signature(peftbench.run).parameters
    assert {name: p.default for name, p in parameters.items()} == {
        one.parameter: one.shown_default for one in RUN_OPTIONS
    }
    assert list(parameters)[:3] == ["methods", "model", "task"]
    for one in RUN_OPTIONS:
        assert f"    {one.parameter}: {one.help}\n" in (peftbench.run.__doc__ or "")


def test_the_docs_have_what_is_declared() -> None:
    assert options_page() == PAGE, "run `make docs`"
    for command, options in OPTIONS.items():
        section = PAGE.split(f"## `peftbench {command}`")[1].partition("\n## ")[0]
        rows = re.findall(r"^\| `(--[\w-]+)[^|]*(?:\\\|[^|]*)*\| (?:`(.*?)`|\w*) *\|", section, re.MULTILINE)
        assert {flag for flag, _ in rows} == {one.flag for one in options}
        assert dict(rows) == {one.flag: _in_docs(one) for one in options}


def _in_docs(one: Option) -> str:
    return "" if one.type is FLAG or one.shown_default in (None, ()) else str(one.shown_default)


def test_a_default_that_is_typed_is_the_default() -> None:
    for cls in (Comparison, Execution, Session, Printed, LatencyRequest):
        typed = {
            one.parameter: str(one.shown_default)
            for one in options_of(cls)
            if one.type is not FLAG and one.shown_default not in (None, ())
        }
        assert read(cls, typed) == read(cls, {}) == cls()


def test_json_brings_a_request_back() -> None:
    given = {"methods": "lora:rank=2,adapter", "train_size": "5,all", "latency_grid": "1x2,3x4", "lr": "1e-3"}
    asked = read(Comparison, given)
    assert Comparison.from_json(json.loads(json.dumps(asked.to_json()))) == asked
    assert (asked.methods, asked.train_sizes) == (("lora:rank=2", "adapter"), (5, None))
    for grid in ("none", "2x8", None):
        timed = read(
            LatencyRequest, {"plugins": ["a.py"]} | ({} if grid == "none" else {"latency_grid": grid})
        )
        assert LatencyRequest.from_json(json.loads(json.dumps(timed.to_json()))) == timed


def test_text_and_python_values_are_the_same() -> None:
    typed = {
        "methods": "csv:path='a,b.csv',lora",
        "model": "a, b",
        "train_size": "10,all",
        "latency_grid": "1x2",
    }
    python = {"methods": ["csv:path='a,b.csv'", "lora"], "model": ["a", "b"], "train_size": [10, None]}
    asked = read(Comparison, typed)
    assert asked == read(Comparison, python | {"latency_grid": [(1, 2)]})
    assert asked.methods[0] == "csv:path='a,b.csv'" and asked.models == ("a", "b")
    assert read(Comparison, {"latency_grid": "none"}) == read(Comparison, {"latency_grid": ()})
    assert read(Comparison, {"train_size": 7}).train_sizes == (7,)


def test_plugins_of_the_environment_are_for_both_doors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PEFTBENCH_PLUGINS", "b.py")
    assert read(Comparison, {}).plugins == ("b.py",) and Comparison().plugins == ()
    assert read(Comparison, {"plugins": [Path("a.py")]}).plugins == ("a.py", "b.py")


@pytest.mark.parametrize(
    ("option", "value", "said"),
    [
        ("device", "gpu", "unknown value of --device: 'gpu'; did you mean 'cpu'? (one of auto, cpu, cuda)"),
        ("dtype", "fp16", "unknown value of --dtype: 'fp16'"),
        ("budget", "standrad", "unknown budget 'standrad'; did you mean 'standard'?"),
        ("steps", "0", "--steps must be above 0, not 0"),
        ("seeds", "x", "--seeds must be a whole number, not 'x'"),
        ("seeds", "2.5", "--seeds must be a whole number, not '2.5'"),
        ("epochs", "nan", "--epochs must be a number, not 'nan'"),
        ("lr", "fast", "--lr must be a number, not 'fast'"),
        ("tune", "-1", "--tune must be 0 or more, not -1; 0 takes the presets"),
        ("curve", "-1", "--curve must be 0 or more"),
        ("timeout", "0", "--timeout must be above 0 seconds, not 0"),
        ("methods", ",", "--methods is empty; name some"),
        ("methods", "lora:rank", "'rank' in 'lora:rank' is not FIELD=VALUE"),
        ("model", "", "--model needs a name; leave it out"),
        ("task", "", "--task needs a name; leave it out"),
        ("train_size", "all,few", "--train-size 'few' is not a number of items"),
        ("train_size", "1", "--train-size must be 2 or more, or all, not 1"),
        ("train_size", "", "--train-size is empty"),
        ("latency_grid", "1-32", "--latency-grid '1-32' is not BATCHxLENGTH"),
        ("latency_grid", "0x8", "--latency-grid '0x8' is not BATCHxLENGTH"),
        ("data_dir", "nowhere", "--data-dir 'nowhere' is not a folder"),
        ("accumulate", "32", "--accumulate 32 cuts a batch of 8 into empty parts"),
        ("engine", "locl", "unknown engine 'locl'; did you mean 'local'?"),
    ],
)
def test_a_mistake_is_told_at_both_doors(
    option: str,
    value: str,
    said: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as ended:
        app.main(["run", f"--{option.replace('_', '-')}={value}"])
    err = capsys.readouterr().err
    assert ended.value.code == 2 and said in err and err.count("\n") == 1
    with pytest.raises(UsageError) as raised:
        peftbench.run(**{option: value})
    assert err == f"peftbench: {raised.value}\n"


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"lerning_rate": 1e-3}, "unknown option 'lerning_rate'; did you mean 'lr'?"),
        ({"train_sizes": [5]}, "unknown option 'train_sizes'; did you mean 'train_size'?"),
        ({"modle": "x"}, "unknown option 'modle'; did you mean 'model'"),
        ({"format": "csv"}, "peftbench.run returns a DataFrame"),
        ({"device": None}, "--device needs a value; leave it out for 'auto'"),
        ({"profile": "no"}, "--profile must be True or False, not 'no'"),
        ({"methods": 7}, "--methods must be a list, or text as in"),
        ({"seeds": True}, "--seeds must be a whole number, not True"),
        ({"latency_grid": [(1,)]}, "--latency-grid (1,) is not BATCHxLENGTH"),
        ({"store": 3}, "--store must be a path, not 3"),
    ],
)
def test_mistakes_of_a_program(given: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError, match=re.escape(said)):
        peftbench.run(**given)


def test_a_request_that_was_made_by_hand_is_checked_too() -> None:
    with pytest.raises(UsageError, match="unknown value of --device: 'gpu'"):
        check_request(Comparison(device="gpu"))
