"""`peftbench new`: what it writes works as it stands, under a pytest of its own, and overwrites nothing."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from peftbench.cli.app import main
from peftbench.cli.scaffold import new
from peftbench.errors import UsageError


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder outside the checkout that `peftbench new method half-lora` wrote into."""
    folder = tmp_path_factory.mktemp("home")
    new("method", "half-lora", folder, ())
    return folder


def test_its_test_passes_where_there_is_nothing_but_pytest(home: Path) -> None:
    """No conftest, no settings, no hub; warnings are errors."""
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-W",
        "error",
        "-p",
        "no:cacheprovider",
        "test_half_lora.py",
    ]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=home, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 passed" in done.stdout


def test_the_method_is_short_and_what_it_says_is_this_name(home: Path) -> None:
    text = (home / "half_lora.py").read_text()
    assert '"half-lora",' in text and "class HalfLora:" in text and "$" not in text
    code = [line for line in text.splitlines() if line.strip() and not line.strip().startswith("#")]
    assert len(code) <= 40
    for number in range(1, 7):
        assert f"EDIT {number}:" in text
    assert sorted(file.name for file in home.glob("*.py")) == ["half_lora.py", "test_half_lora.py"]


def test_what_is_written_is_clean(home: Path) -> None:
    """By this project's own rules, with its package known as what is imported last."""
    settings = ["--config", str(Path(__file__).resolve().parents[2] / "pyproject.toml")]
    for arguments in (
        ["check", "--config", "lint.isort.known-first-party=['peftbench']"],
        ["format", "--check"],
    ):
        command = [sys.executable, "-m", "ruff", *arguments, *settings, str(home)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr


def test_it_says_what_to_do_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as ended:
        main(["new", "method", "my-gain", "--to", "my methods"])
    out, err = capsys.readouterr()
    assert ended.value.code == 0 and err == ""
    assert "peftbench check 'my methods/my_gain.py'" in out
    assert "peftbench run --methods lora,my-gain --plugins 'my methods/my_gain.py'" in out
    assert (tmp_path / "my methods" / "test_my_gain.py").is_file()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "write `peftbench new method NAME`"),
        (["method"], "write `peftbench new method NAME`"),
        (["fast"], "'fast' is no kind of thing that it makes: write `peftbench new method fast`"),
        (["task", "fast"], "'task' is no kind of thing that it makes: write `peftbench new method fast`"),
        (["method", "Fast"], "'Fast' is no name for a method; use lower case, digits and dashes"),
        (["method", "fast_lora"], "is no name for a method"),
        (["method", "4bit"], "is no name for a method"),
        (["method", "fast-"], "is no name for a method"),
        (["method", "../fast"], "is no name for a method"),
        (["method", "test-fast"], "would be taken for a test"),
        (["method", "lora"], "the name 'lora' is taken by "),
        (["method", "adapter"], "the name 'adapter' is taken by "),
        (["method", "random"], "random.py would hide the Python module of that name"),
        (["method", "torch"], "torch.py would hide"),
        (["method", "lambda"], "'lambda' is a word of Python"),
        (["method", "none"], "'none' is a word of Python"),
        (["method", "there"], "there.py' exists and is left as it is"),
        (["method", "tested"], "test_tested.py' exists and is left as it is"),
        (["method", "fast", "--to", "there.py"], "can't be written: "),
    ],
)
def test_mistakes_get_one_line_and_status_2(
    arguments: list[str],
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    for file in ("there.py", "test_tested.py"):
        (tmp_path / file).write_text("mine")
    with pytest.raises(SystemExit) as ended:
        main(["new", *arguments])
    out, err = capsys.readouterr()
    assert ended.value.code == 2
    assert out == "" and err.startswith("peftbench: ") and said in err and err.count("\n") == 1, err
    assert sorted(file.name for file in tmp_path.iterdir()) == ["test_tested.py", "there.py"]
    assert all(file.read_text() == "mine" for file in tmp_path.iterdir())


def test_a_name_that_a_plugin_has_is_taken(tmp_path: Path) -> None:
    new("method", "known-by-plugin", tmp_path, ())
    with pytest.raises(UsageError, match=r"taken by .*known_by_plugin\.py:\d+"):
        new("method", "known-by-plugin", tmp_path / "elsewhere", [tmp_path / "known_by_plugin.py"])


def test_a_folder_of_plugins_may_hold_the_tests_too(tmp_path: Path) -> None:
    """And a file that stands in `methods/` can be named by its path."""
    from peftbench.plugins import loader, registry

    new("method", "beside-its-test", tmp_path, ())
    loader.load_plugins([tmp_path])
    entry = registry.get("method", "beside-its-test")
    assert entry.path == (tmp_path / "beside_its_test.py").resolve()
    assert "peftbench.methods.test_beside_its_test" not in sys.modules
    loader.load_plugins([registry.get("method", "lora").path])


def test_its_test_finds_the_method_in_a_clone_too(tmp_path: Path) -> None:
    """Where the method went into `methods/` and the test into `tests/`."""
    new("method", "moved-into-a-clone", tmp_path, ())
    for file, folder in (("moved_into_a_clone.py", "methods"), ("test_moved_into_a_clone.py", "tests")):
        (tmp_path / folder).mkdir()
        (tmp_path / file).rename(tmp_path / folder / file)
    test = tmp_path / "tests" / "test_moved_into_a_clone.py"
    names: dict[str, object] = {"__file__": str(test)}
    exec(compile(test.read_text(), test, "exec"), names)  # noqa: S102  this is what pytest does
    assert names["FILE"] == tmp_path / "methods" / "moved_into_a_clone.py"


def test_a_method_whose_inject_fails_is_a_row_and_the_others_run(tmp_path: Path) -> None:
    from peftbench.comparison.request import Comparison
    from peftbench.measure.environment import capacity
    from peftbench.planning.plan import plan

    for name, body in {"gives-nothing": "pass", "divides-by-zero": "1 / 0"}.items():
        (tmp_path / f"{name.replace('-', '_')}.py").write_text(
            "from dataclasses import dataclass\nfrom peftbench import Claims, Preset, method\n"
            f"@method('{name}', Claims(), Preset(1e-3, 'none'))\n@dataclass(frozen=True)\nclass Wrong:\n"
            f"    def inject(self, model):\n        {body}\n"
        )
    asked = Comparison(
        methods=("lora", "gives-nothing", "divides-by-zero"),
        models=("tiny-encoder",),
        tasks=("synthetic",),
        baselines=False,
        latency_grid=(),
        plugins=(str(tmp_path),),
    )
    refusals = {item.run.method: item.refusal for item in plan(asked, capacity())}
    assert refusals["lora"] is None
    assert refusals["gives-nothing"] == (
        "its inject() returned NoneType, not an Adaptation; return what swap(...) or select(...) gives"
    )
    assert refusals["divides-by-zero"] == (
        "its inject() raises ZeroDivisionError: division by zero (divides_by_zero.py, line 7)"
    )
    with pytest.raises(UsageError, match="^lora:targets=querry: unknown role"):
        plan(
            Comparison(methods=("lora:targets=querry",), models=("tiny-encoder",), tasks=("synthetic",)),
            capacity(),
        )


def test_a_method_in_this_folder_that_was_not_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from peftbench.plugins import registry

    (tmp_path / "not_yet_named.py").write_text("")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match="is in this folder: add --plugins not_yet_named.py"):
        registry.get("method", "not-yet-named")


def test_a_field_without_a_type_is_refused(tmp_path: Path) -> None:
    from peftbench.plugins import loader

    new("method", "typeless-field", tmp_path, ())
    file = tmp_path / "typeless_field.py"
    file.write_text(file.read_text().replace("    rank: int = 8\n", "    rank = 8\n"))
    with pytest.raises(UsageError, match="rank has no type and so is no option; write rank: int = ..."):
        loader.load_plugins([file])
