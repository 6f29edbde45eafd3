"""The help: panels, and examples that could be typed."""

from __future__ import annotations

import shlex

import pytest

from peftbench.cli.app import COMMANDS, _built, _summary, main
from peftbench.cli.examples import EXAMPLES, FIRST_STEPS
from peftbench.option import PANELS


def test_options_stand_in_panels_and_examples_below(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["run", "--help"])
    said = capsys.readouterr().out
    places = [said.index(f"\n{heading}:\n") for heading in (*PANELS, "Options", "Examples")]
    assert ended.value.code == 0 and places == sorted(places)
    budget = said[places[1] : places[2]]
    assert "--seeds" in budget and "--device" not in budget


def test_the_list_of_commands_says_what_each_does(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--help"])
    said = " ".join(capsys.readouterr().out.split())
    for name in COMMANDS:
        assert f"{name} {_summary(name)}" in said and _built(name).help == _summary(name)


def test_nothing_asked_shows_three_commands_to_try(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main([])
    said = capsys.readouterr().out
    assert ended.value.code == 0 and len(FIRST_STEPS) == 3 and "peftbench --help" in said
    assert all(command in said and why in said for command, why in FIRST_STEPS)
    assert max(map(len, said.splitlines())) <= 90


@pytest.mark.parametrize("name", ["", *COMMANDS])
def test_examples_can_be_typed(name: str) -> None:
    examples = EXAMPLES[name] if name else FIRST_STEPS
    assert 2 <= len(examples) <= 3
    for command, _ in examples:
        program, asked, *arguments = shlex.split(command.partition(" > ")[0])
        assert program == "peftbench"
        _built(asked).make_context(asked, arguments)  # raises where an option or an argument is not there
