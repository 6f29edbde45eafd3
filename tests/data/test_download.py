"""What is said of a download."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from peftbench import progress
from peftbench.data import download


def test_files_sizes_and_how_far_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "LOOK_PERIOD_S", 0.01)
    monkeypatch.setattr(download, "TOLD_PERIOD_S", 0.05)
    heard: list[dict[str, Any]] = []
    files = {f"part-{n}": 1_000_000 for n in range(8)}
    with progress.reported_to(heard.append), download.shown("model 'org/model'", files, tmp_path / "blobs"):
        (tmp_path / "blobs").mkdir()
        (tmp_path / "blobs" / "part.incomplete").write_bytes(b"x" * 2_000_000)
        time.sleep(0.2)
    notices = [event["notice"] for event in heard if "notice" in event]
    assert notices[0].startswith("downloading model 'org/model', 8.0 MB: part-0 (1.0 MB), ")
    assert notices[0].endswith("part-5 (1.0 MB) and 2 more")
    assert "model 'org/model': 2.0 MB of 8.0 MB" in notices
    steps = [(event["done_bytes"], event["of_bytes"]) for event in heard if "download" in event]
    assert (2_000_000, 8_000_000) in steps and steps[-1] == (8_000_000, 8_000_000)


def test_sizes_are_those_of_the_hubs_pages() -> None:
    sizes = [download.size_of(n) for n in (999, 1_500, 12_345_678, 2_500_000_000)]
    assert sizes == ["999 bytes", "1.5 kB", "12 MB", "2.5 GB"]
