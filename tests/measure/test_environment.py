"""What a machine grants."""

from __future__ import annotations

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
