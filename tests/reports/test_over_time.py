"""Several stores: side by side against the first, and in one table."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from peftbench.records.runs import Run
from peftbench.records.store import RECORD

from ..support.commands import peftbench
from ..support.results import result


@pytest.fixture
def stores(make_run: Callable[..., Run], tmp_path: Path) -> list[str]:
    """Two stores of three seeds of two methods, which differ in the quality of one."""
    named = []
    for name, share in (("a", 0.8), ("b", 0.5)):
        store = tmp_path / name
        for method, quality in (("lora", share), ("full", 0.85)):
            for seed in range(3):
                one = result(make_run(method, seed=seed), tmp_path / f"made-{name}", quality, noise=seed)
                assert one.folder is not None
                (store / one.record.key).mkdir(parents=True)
                one.folder.rename(store / one.record.key / "0001")
                text = one.record.to_text()
                (store / one.record.key / "0001" / RECORD).write_text(text, encoding="utf-8")
        named.append(str(store))
    return named


def test_each_is_compared_with_the_first(stores: list[str], tmp_path: Path) -> None:
    a, b = stores
    many = peftbench("compare", a, b, a, cwd=tmp_path)
    lines = many.stdout.splitlines()
    assert many.returncode == 0 and lines[0] == f"### {b}, {a} against {a}"
    row = next(line for line in lines if line.startswith("| lora"))
    assert [cell.split(" ±")[0].strip() for cell in row.split("|")[2:5]] == [
        "81.0",
        "51.0, -30.0",
        "81.0, +0.0",
    ]
    assert any(line.startswith("The same in all of them: ") for line in lines)
    judged = peftbench("compare", a, b, a, "--fail-on", "accuracy:-1.0", cwd=tmp_path)
    assert judged.returncode == 2 and "judges one store against another; give two of them" in judged.stderr


def test_a_report_of_several_has_each_run_once(stores: list[str], tmp_path: Path) -> None:
    a, b = stores
    once, twice = (peftbench("report", *["--store", a] * n, cwd=tmp_path) for n in (1, 2))
    assert once.returncode == twice.returncode == 0 and once.stdout == twice.stdout
    both = peftbench("report", "--store", a, "--store", b, cwd=tmp_path)
    assert both.returncode == 0 and both.stdout == once.stdout  # the runs of b have the keys of a
    none = peftbench("report", "--store", a, "--store", str(tmp_path / "c"), cwd=tmp_path)
    assert none.returncode == 2 and "there is no store at" in none.stderr
