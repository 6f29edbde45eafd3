"""Experiments of a stranger's collection: their names, and those of their files, may be the built-ins'."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from peftbench import UsageError, experiment
from peftbench.cli.app import main
from peftbench.plugins import loader, registry

DOCS = Path(__file__).resolve().parents[2] / "docs" / "paper.md"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page that the docs show, in a file named as a built-in, with a sibling."""
    home = tmp_path_factory.mktemp("plugins")
    (home / "experiments").mkdir()
    shown = re.search(r"```python\n(.*?)```", DOCS.read_text(encoding="utf-8"), re.DOTALL)
    assert shown is not None
    (home / "experiments" / "table2.py").write_text(
        f"{shown[1]}\nfrom ._numbers import TWO\nassert TWO == 2\n"
    )
    (home / "experiments" / "_numbers.py").write_text("TWO = 2\n")
    (home / "experiments" / "page.py").write_text("")  # as a module of the core is called
    return home


def test_a_page_of_a_strangers_collection(
    folder: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    with pytest.raises(SystemExit):
        main(["paper", "list", "--plugins", str(folder)])
    listed = capsys.readouterr().out.splitlines()
    assert listed[0].startswith("claims") and listed[-1].split(maxsplit=1) == [
        "our-paper/table2",
        "What our paper prints",
    ]
    with pytest.raises(SystemExit) as ended:
        main(["paper", "our-paper/table2", "--plugins", str(folder), "--out", str(tmp_path)])
    assert ended.value.code == 0
    assert "| Two is even | confirmed" in (tmp_path / "our-paper-table2.md").read_text(encoding="utf-8")
    assert registry.get("experiment", "table2").path.parent.name == "paper"  # the built-in is as it was


def test_a_second_folder_of_the_same_collection_is_refused_by_name(folder: Path, tmp_path: Path) -> None:
    loader.load_plugins([folder])
    (tmp_path / "experiments").mkdir()
    text = (folder / "experiments" / "table2.py").read_text()
    (tmp_path / "experiments" / "table2.py").write_text(
        text.replace("from ._numbers import TWO\nassert TWO == 2\n", "")
    )
    with pytest.raises(UsageError, match="experiment 'our-paper/table2' is registered twice"):
        loader.load_plugins([tmp_path])


def test_a_collection_has_a_plain_name() -> None:
    with pytest.raises(UsageError, match="of='Our Paper' must be of lower-case letters"):
        experiment("table1", title="a test", of="Our Paper")
