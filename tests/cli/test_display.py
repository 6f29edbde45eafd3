"""What a person sees while a comparison runs."""

from __future__ import annotations

import sys

import pytest

from peftbench import progress
from peftbench.cli.display import Display


def test_a_download_of_a_plan_shows_in_the_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    with Display(quiet=False) as display:
        progress.send({"download": "downloading model 'm'", "done_bytes": 2_000, "of_bytes": 8_000})
        task = display.bar.tasks[0]
        assert task.description == "downloading model 'm', 2.0 kB of 8.0 kB"
        assert (task.completed, task.total) == (25, 100)
        progress.send({"download": "downloading model 'm'", "done_bytes": 8_000, "of_bytes": 8_000})
        assert display.bar.tasks[0].description == "loading libraries"
    progress.send({"download": "nobody listens any more"})
