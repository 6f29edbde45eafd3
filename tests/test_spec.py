"""SPEC strings and the registry's three doors."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from peftbench import Claims, Preset, UsageError, method, spec
from peftbench.plugins import loader, registry


@dataclass(frozen=True)
class Toy:
    rank: int = 8
    scale: float = 1.0
    on: bool = False
    path: str = "here"
    limit: int | None = None

    def inject(self, model: Any) -> Any: ...


def build(text: str) -> Toy:
    toy: Toy = spec.build(spec.parse(text), Toy, "method")
    return toy


def test_fields_are_parsed_by_their_types() -> None:
    toy = build("toy:rank=4:scale=1e-3:on=true:path='C:/a,b.csv':limit=none")
    assert toy == Toy(4, 1e-3, True, "C:/a,b.csv", None)
    assert build("toy:limit=3").limit == 3


def test_lists_split_outside_quotes_only() -> None:
    specs = spec.parse_list("a:path='x,y:z', b ,,c:rank=2")
    assert [s.name for s in specs] == ["a", "b", "c"]
    assert specs[0].fields == (("path", "x,y:z"),)


def test_canonical_names_what_differs_from_the_default() -> None:
    assert spec.canonical("toy", Toy()) == "toy"
    assert spec.canonical("toy", build("toy:path='a:b':rank=4:scale=1.0")) == "toy:rank=4:path='a:b'"
    assert build(spec.canonical("toy", Toy(path="a,b"))) == Toy(path="a,b")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("toy:rnk=4", "did you mean 'rank'"),
        ("toy:rank=four", "rank must be an int, not 'four'"),
        ("toy:scale=x", "scale must be a float"),
        ("toy:on=maybe", "must be true or false"),
        ("toy:rank", "not FIELD=VALUE"),
        ("toy:rank=1:rank=2", "sets 'rank' twice"),
        (":rank=1", "names nothing"),
        ("toy:path='x", "never closed"),
    ],
)
def test_mistakes_are_named(text: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        build(text)


def test_an_unknown_name_offers_the_nearest() -> None:
    with pytest.raises(UsageError, match="unknown method 'lroa'; did you mean 'lora'"):
        registry.get("method", "lroa")


def test_a_name_registered_twice_names_both_places() -> None:
    with pytest.raises(UsageError, match=r"registered twice: .*lora\.py:\d+ and .*test_spec\.py:\d+"):
        method("lora", claims=Claims(), preset=Preset(1.0, source="a test"))(Toy)


def test_a_method_must_be_a_frozen_dataclass_with_inject() -> None:
    with pytest.raises(UsageError, match="frozen=True"):
        method("thawed", claims=Claims(), preset=Preset(1.0, source="a test"))(dataclass(type("T", (), {})))
    with pytest.raises(UsageError, match="has no inject"):
        method("mute", claims=Claims(), preset=Preset(1.0, source="a test"))(
            dataclass(frozen=True)(type("T", (), {}))
        )


PLUGIN = '''
from dataclasses import dataclass
from peftbench import Claims, Preset, method
from .lora import LoRA

@method("{name}", claims=Claims(), preset=Preset(1e-3, source="a test"))
@dataclass(frozen=True)
class Mine(LoRA):
    """A plugin."""
    rank: int = 2
'''


def test_a_plugin_file_imports_siblings_and_is_hashed_with_them(tmp_path: Path) -> None:
    file = tmp_path / "mine_a.py"
    file.write_text(PLUGIN.format(name="mine-a"))
    loader.load_plugins([file])
    entry = registry.get("method", "mine-a")
    assert entry.target().rank == 2 and entry.summary == "A plugin."
    before = entry.source_sha256()
    assert before != registry.get("method", "lora").source_sha256()
    file.write_text(PLUGIN.format(name="mine-a") + "    size: int = 1\n")
    assert entry.source_sha256() != before


def test_a_plugin_folder_may_hold_each_kind(tmp_path: Path) -> None:
    (tmp_path / "methods").mkdir()
    (tmp_path / "reports").mkdir()
    (tmp_path / "methods" / "mine_b.py").write_text(PLUGIN.format(name="mine-b"))
    report = '"""Doc."""\nfrom peftbench import report\n@report("count", suffix=".txt")\ndef count(tables): return str(len(tables))\n'
    (tmp_path / "reports" / "count.py").write_text(report)
    loader.load_plugins([tmp_path])
    assert registry.get("method", "mine-b").name == "mine-b"
    assert registry.get("report", "count").target([]) == "0"


def test_a_plugin_that_does_not_import_says_its_own_error(tmp_path: Path) -> None:
    broken = tmp_path / "broken.py"
    broken.write_text("import nothing_of_that_name\n")
    with pytest.raises(
        UsageError, match="does not import: ModuleNotFoundError: No module named 'nothing_of_that_name'"
    ):
        loader.load_plugins([broken])
    syntax = tmp_path / "syntax.py"
    syntax.write_text("x = 1\ndef f(:\n")
    with pytest.raises(UsageError, match=r"SyntaxError: .*\(line 2\)"):
        loader.load_plugins([syntax])
    with pytest.raises(UsageError, match="does not exist"):
        loader.load_plugins([tmp_path / "absent.py"])
    shadow = tmp_path / "lora.py"
    shadow.write_text("")
    with pytest.raises(UsageError, match="rename the file"):
        loader.load_plugins([shadow])
