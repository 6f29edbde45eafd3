"""What is written and where: full and closed outputs, names that a terminal would obey, empty names."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from peftbench.cli.app import main
from peftbench.cli.options import write

PROGRAM = [sys.executable, "-m", "peftbench"]


@pytest.mark.parametrize("arguments", [["--help"], ["list", "models"]])
def test_a_full_stdout_is_one_line_and_status_2(arguments: list[str]) -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [*PROGRAM, *arguments], stdout=full, stderr=subprocess.PIPE, text=True, check=False
        )
    assert (done.returncode, done.stderr) == (
        2,
        "peftbench: stdout can't be written: No space left on device\n",
    )


def test_a_closed_stdout_is_one_line_and_status_2() -> None:
    command = ["sh", "-c", f"{sys.executable} -m peftbench --help >&-"]
    done = subprocess.run(command, stderr=subprocess.PIPE, text=True, check=False)
    assert (done.returncode, done.stderr) == (2, "peftbench: stdout can't be written: Bad file descriptor\n")


def test_no_name_reaches_the_terminal_as_a_command_to_it(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    write("a\x1b[2Jb\n")
    assert capsys.readouterr().out == "a\\x1b[2Jb\n"
    write("a\rb\n", tmp_path / "kept.csv")
    assert (tmp_path / "kept.csv").read_bytes() == b"a\rb\n"
    with pytest.raises(SystemExit):
        main(["report", "--store", "a\x1b[2Jb"])
    assert capsys.readouterr().err.startswith("peftbench: there is no store at 'a\\x1b[2Jb'")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["report", "--store", ""], "--store '' names no file or folder"),
        (["report", "--out", ""], "--out ''"),
        (["run", "--store", ""], "--store ''"),
        (["run", "--plugins", ""], "--plugins ''"),
        (["run", "--data-dir", ""], "--data-dir ''"),
        (["compare", "", "b"], "A ''"),
        (["export", "abc", "--to", ""], "--to ''"),
        (["new", "method", "mine", "--to", ""], "--to ''"),
        (["list", "runs", "--store", "~nobody-of-that-name"], "no such user"),
        (["show", "abc", "--store", "x" * 300], "too long a name"),
        (["check", "lora", "--plugins", "x" * 300], "too long a name"),
        (["latency", "--store", "link"], "is a link to '/nowhere/at-all', which is not there"),
    ],
)
def test_a_path_that_names_nothing_is_one_line(
    arguments: list[str],
    said: str,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    os.symlink("/nowhere/at-all", "link")
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    out, err = capsys.readouterr()
    assert ended.value.code == 2 and out == "" and said in err and err.count("\n") == 1, err
