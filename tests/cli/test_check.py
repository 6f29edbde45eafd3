"""`peftbench check`: a name is a name, whatever files are called so."""

from __future__ import annotations

from pathlib import Path

import pytest

from peftbench.inspection import check_method


@pytest.mark.parametrize("what", ["lora", "lora:rank=2", "synthetic"])
def test_a_file_named_as_a_method_is_not_taken_for_it(
    what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / what).write_text("not Python at all")
    methods, tasks = check_method._asked(what)
    assert [*methods, *tasks] == [what]
