"""What the shell offers, asked for as bash does it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from peftbench import defaults
from peftbench.cli.completion import names_of
from peftbench.models.starters import STARTERS
from peftbench.plugins import registry


def offered(words: str) -> list[str]:
    asked = {"COMP_WORDS": words, "COMP_CWORD": str(words.count(" ")), "_PEFTBENCH_COMPLETE": "complete_bash"}
    code = (  # as `python -m peftbench`, and refusing what would make the shell wait
        "import sys\nfrom peftbench.cli.app import main\n"
        "try: main([])\nfinally: assert not {'torch', 'pandas'} & set(sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, **asked}, capture_output=True, text=True, check=True
    )
    return done.stdout.split()


@pytest.mark.parametrize(
    ("words", "some"),
    [
        ("peftbench l", ["latency", "list"]),
        ("peftbench run --train", ["--train-size"]),
        ("peftbench run --methods lora,ada", ["lora,adalora", "lora,adapter-h"]),
        ("peftbench latency --model tiny-e", ["tiny-encoder"]),
        ("peftbench run --device ", ["auto", "cpu", "cuda"]),
        ("peftbench report --format mark", ["markdown"]),
    ],
)
def test_the_shell_is_offered(words: str, some: list[str]) -> None:
    assert set(some) <= set(offered(words))


@pytest.mark.parametrize("kind", ["method", "task", "report"])
def test_names_read_from_files_are_those_of_the_registry(kind: str) -> None:
    folder = Path(__file__).resolve().parents[2] / f"{kind}s"
    built_in = {entry.name for entry in registry.load(kind).values() if entry.path.parent == folder}
    assert set(names_of(kind)) == built_in | {*(defaults.SUITES if kind == "task" else ())}


def test_names_of_models_are_the_starters() -> None:
    assert names_of("model") == list(STARTERS)


def test_the_script_is_shown() -> None:
    command = [sys.executable, "-m", "peftbench", "--show-completion", "bash"]
    shown = subprocess.run(
        command, env={**os.environ, "_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"},
        capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    assert "_PEFTBENCH_COMPLETE=complete_bash" in shown and "complete -o default" in shown
