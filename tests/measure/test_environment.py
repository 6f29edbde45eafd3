"""What a machine grants."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from peftbench.measure import environment


def test_a_limit_of_the_system_counts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    limit = tmp_path / "memory.max"
    monkeypatch.setattr(environment, "CGROUP", (limit, tmp_path / "none"))
    limit.write_text("max\n")
    whole = environment.granted_bytes()
    limit.write_text("123456789\n")
    assert environment.granted_bytes() == 123456789 < whole


def test_a_library_whose_kernels_a_run_takes_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environment, "KERNEL_LIBRARIES", ("peft", "pytest", "typer"))
    monkeypatch.setitem(sys.modules, "peft", None)
    monkeypatch.delitem(sys.modules, "typer", raising=False)
    assert {"pytest", "peft"} <= environment.versions().keys() and "typer" not in environment.versions()
    assert "typer" in environment.versions("cuda")
