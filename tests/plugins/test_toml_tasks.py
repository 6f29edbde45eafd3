"""The user's own data beyond one file: data sets in the hub's layout, tasks in TOML, the primary metric."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import pytest

from peftbench import Classification, UsageError
from peftbench.execution.execute import execute
from peftbench.plugins import loader, registry
from peftbench.plugins.build import build_task, length_of
from peftbench.records.runs import Conditions

FEATURES = datasets.Features(
    {"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["bad", "good"])}
)


def rows(split: str, count: int) -> datasets.Dataset:
    content = {"text": [f"{split} {i}" for i in range(count)], "label": [i % 2 for i in range(count)]}
    return datasets.Dataset.from_dict(content, features=FEATURES)


def test_a_saved_data_set_has_its_splits_and_names(tmp_path: Path) -> None:
    saved = datasets.DatasetDict({"train": rows("train", 100), "test": rows("test", 30)})
    saved.save_to_disk(str(tmp_path / "saved"))
    task = build_task(f"hub:path={tmp_path / 'saved'}")
    assert task.objective == Classification(("bad", "good"))
    splits = task.splits()
    assert splits["test"]["text"] == [f"test {i}" for i in range(30)] and splits["test"]["label"][:2] == [
        0,
        1,
    ]
    assert len(splits["train"]) + len(splits["validation"]) == 100
    assert task.fingerprint() == build_task(f"hub:path={tmp_path / 'saved'}").fingerprint()
    turned = build_task(f"hub:path={tmp_path / 'saved'}:train=test:test=train")
    assert turned.fingerprint() != task.fingerprint() and len(turned.splits()["test"]) == 100
    for field, said in (
        ("train=x", "has no split 'x'; it has train, test"), ("test=x", "has no split 'x'"), ("text=x", "has no column 'x'"),
    ):  # fmt: skip
        with pytest.raises(UsageError, match=said):
            build_task(f"hub:path={tmp_path / 'saved'}:{field}").splits()


def test_one_split_is_never_two(tmp_path: Path) -> None:
    """Rates are chosen on validation and test is reported: they are not the same rows, whatever is named."""
    saved = datasets.DatasetDict({"train": rows("train", 100), "validation": rows("validation", 30)})
    saved.save_to_disk(str(tmp_path / "saved"))
    splits = build_task(f"hub:path={tmp_path / 'saved'}:test=validation").splits()
    assert splits["test"]["text"] == [f"validation {i}" for i in range(30)]
    assert all(text.startswith("train") for text in splits["validation"]["text"])
    with pytest.raises(UsageError, match="train and test are both its split 'train'"):
        build_task(f"hub:path={tmp_path / 'saved'}:test=train").splits()
    with pytest.raises(UsageError, match="validation and test are both its split 'validation'"):
        build_task(f"hub:path={tmp_path / 'saved'}:validation=validation:test=validation").splits()


def test_a_split_that_looks_like_one_is_not_passed_over(tmp_path: Path) -> None:
    """No test split is cut off training beside one called Test; one that is named, and what is not lacking, is no matter."""
    saved = {name: rows(name, 40) for name in ("train", "dev", "Test", "validation_hard", "unsupervised")}
    datasets.DatasetDict(saved).save_to_disk(str(tmp_path))
    with pytest.raises(
        UsageError, match="has no test split, and 'Test', which is not read: write :test=Test$"
    ):
        build_task(f"hub:path={tmp_path}").splits()
    splits = build_task(f"hub:path={tmp_path}:test=Test").splits()
    assert [len(splits[split]) for split in ("train", "validation", "test")] == [40, 40, 40]


def test_names_of_labels_are_data_and_the_number_of_files_is_not(tmp_path: Path) -> None:
    turned = datasets.Features(
        {"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["good", "bad"])}
    )
    for name, features, shards in (("a", FEATURES, 1), ("b", FEATURES, 4), ("c", turned, 1)):
        content = {"text": [f"t {i}" for i in range(60)], "label": [i % 2 for i in range(60)]}
        made = datasets.Dataset.from_dict(content, features=features)
        datasets.DatasetDict({"train": made}).save_to_disk(str(tmp_path / name), num_shards={"train": shards})
    a, b, c = (build_task(f"hub:path={tmp_path / name}") for name in "abc")
    assert a.fingerprint() == b.fingerprint() != c.fingerprint()
    both = [dict(zip(t.splits()["test"]["text"], t.splits()["test"]["label"], strict=True)) for t in (a, c)]
    assert both[0] and all(both[1][text] == 1 - label for text, label in both[0].items())


def test_a_folder_of_parquet_is_a_data_set(tmp_path: Path) -> None:
    rows("a", 60).to_parquet(tmp_path / "train-00000-of-00001.parquet")
    rows("b", 20).to_parquet(tmp_path / "validation-00000-of-00001.parquet")
    splits = build_task(f"hub:path={tmp_path}").splits()
    assert len(splits["validation"]) == 20 and len(splits["train"]) + len(splits["test"]) == 60


def test_a_label_without_a_name_is_said(tmp_path: Path) -> None:
    unlabelled = datasets.Dataset.from_dict({"text": ["a", "b"], "label": [-1, -1]}, features=FEATURES)
    datasets.DatasetDict({"train": rows("a", 20), "test": unlabelled}).save_to_disk(str(tmp_path / "saved"))
    with pytest.raises(UsageError, match=r"test: row 1, column 'label': it is empty"):
        build_task(f"hub:path={tmp_path / 'saved'}").splits()


def test_a_data_set_that_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="data folder './none' does not exist"):
        build_task("hub:path=./none").splits()
    for path, said in (
        (tmp_path, "does not load: give a folder that datasets' save_to_disk wrote"),
        ("nobody/nothing", "is not here, and the hub may not be asked"),
    ):
        with pytest.raises(UsageError, match=said):
            build_task(f"hub:path={path}").splits()


@pytest.fixture
def toml(tmp_path: Path) -> Callable[..., Path]:
    """Writes a file of rows and a task on it."""
    lines = [f"{'cat dog' if i % 3 else 'saw nut'} {i},{'animal' if i % 3 else 'tool'}" for i in range(90)]
    (tmp_path / "m.csv").write_text("\n".join(["message,topic", *lines]) + "\n")

    def write(name: str, **changes: Any) -> Path:
        fields: dict[str, Any] = {"kind": "csv", "path": "m.csv", "text": "message", "label": "topic"}
        said = {"name": name, **fields, **changes}
        file = tmp_path / f"{name}.toml"
        content = [
            f"{k} = {str(v).lower() if isinstance(v, int) else repr(v)}"
            for k, v in said.items()
            if v is not None
        ]
        file.write_text("\n".join(content) + "\n")
        return file

    return write


def test_a_task_in_toml_trains_and_has_its_words(
    toml: Callable[..., Path], make_run: Any, tmp_path: Path
) -> None:
    file = toml("support-topics", metric="matthews", max_length=24, description="What a message is about.")
    loader.load_plugins([file])
    entry = registry.get("task", "support-topics")
    assert entry.summary == "What a message is about." and entry.path == file
    assert length_of("support-topics") == 24
    task = build_task("support-topics")
    assert task.objective == Classification(("animal", "tool"), ("matthews", "accuracy", "macro_f1"))
    assert build_task("support-topics:metric=f1").objective.metric.name == "f1"
    out = tmp_path / "out"
    out.mkdir()
    record = execute(make_run(task="support-topics", steps=2), out, Conditions())
    assert record.metric is not None and record.metric["name"] == "matthews"
    before = entry.source_sha256()
    file.write_text(file.read_text() + "split_seed = 1\n")
    assert entry.source_sha256() != before


def test_folders_give_their_tasks_and_leave_other_toml_alone(
    toml: Callable[..., Path], tmp_path: Path
) -> None:
    toml("found-in-a-folder")
    (tmp_path / "pyproject.toml").write_text('[project]\nname = "x"\n')
    loader.load_plugins([tmp_path])
    assert "found-in-a-folder" in registry.load("task")
    assert len(build_task("found-in-a-folder").splits()["train"]) > 50


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"kind": None}, "has no kind; write kind"),
        ({"kind": "cvs"}, "unknown task 'cvs'; did you mean 'csv'"),
        ({"lable": "x"}, "unknown key of task file .*'lable'; did you mean 'label'"),
        ({"metric": "bleu"}, "metric must be one of accuracy, macro_f1, f1, matthews, not 'bleu'"),
        ({"max_length": 0}, "max_length must be a whole number above 0"),
        ({"split_seed": "x"}, "split_seed must be an int, not 'x'"),
    ],
)
def test_what_is_wrong_with_a_toml_is_one_line(
    changes: dict[str, Any], said: str, toml: Callable[..., Path]
) -> None:
    with pytest.raises(UsageError, match=said) as raised:
        loader.load_plugins([toml("wrong-" + "-".join(changes).replace("_", "-"), **changes)])
    assert "\n" not in str(raised.value)


def test_no_toml_no_name_and_f1_of_three_labels(toml: Callable[..., Path], tmp_path: Path) -> None:
    (tmp_path / "broken.toml").write_text("x = ")
    with pytest.raises(UsageError, match="is no TOML"):
        loader.load_plugins([tmp_path / "broken.toml"])
    bad = toml("named-wrongly")
    bad.write_text(bad.read_text().replace("named-wrongly", "Named Wrongly"))
    with pytest.raises(UsageError, match="must be of lower-case letters"):
        loader.load_plugins([bad])
    (tmp_path / "three.csv").write_text(
        "text,label\n" + "".join(f"t {i},{'abc'[i % 3]}\n" for i in range(60))
    )
    three = build_task(f"csv:path={tmp_path / 'three.csv'}:metric=f1")
    with pytest.raises(UsageError, match="f1 is of the second of two labels, and column 'label' has 3"):
        three.objective.metric  # noqa: B018
