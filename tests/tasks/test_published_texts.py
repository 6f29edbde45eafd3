"""Tasks that read published texts: linearisation, grouping of references, parts, conditions, on small files of the published layout."""

from __future__ import annotations

import gzip
import json
import math
from pathlib import Path
from typing import Any

import pytest

from peftbench import UsageError
from peftbench.data import published
from peftbench.execution.execute import execute
from peftbench.objectives.text_metrics import TEXT_METRICS, TextMetric
from peftbench.plugins.build import build_task, notices_of
from peftbench.records.runs import Conditions

HEADER = ["Player", "No.", "Team"]


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder for `--data-dir`."""
    monkeypatch.setenv(published.VARIABLE, str(tmp_path / "data"))
    return tmp_path / "data"


def written(file: Path, content: Any) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    lines = content if isinstance(content, str) else "".join(json.dumps(row) + "\n" for row in content)
    file.write_bytes(gzip.compress(lines.encode()) if file.suffix == ".gz" else lines.encode())


def webnlg(cities: int, category: str = "Airport") -> str:
    def entry(i: int) -> dict[str, Any]:
        triple = {"subject": f"{category}_{i}", "property": "leaderName", "object": f"Leader {i}"}
        good = [{"comment": "good", "lex": f"Leader {i} leads City {i}, {n}."} for n in range(2)]
        bad = {"comment": "toFix", "lex": "no"}
        return {
            str(i): {
                "category": category,
                "modifiedtripleset": [triple, triple],
                "lexicalisations": [*good, bad],
            }
        }

    return json.dumps({"entries": [entry(i) for i in range(cities)]})


def test_webnlg_is_linearised_and_has_a_seen_and_an_unseen_part(data: Path, make_run: Any) -> None:
    written(data / "webnlg" / "train.json", webnlg(12))
    written(data / "webnlg" / "dev.json.gz", webnlg(3))
    both = json.loads(webnlg(4))["entries"] + json.loads(webnlg(2, "Politician"))["entries"]
    written(data / "webnlg" / "test.json", json.dumps({"entries": both}))
    splits = build_task("webnlg").splits()
    assert {split: len(rows) for split, rows in splits.items()} == {"train": 24, "validation": 6, "test": 12}
    assert splits["train"][0] == {
        "source": "Airport_0 : leaderName : Leader 0 | Airport_0 : leaderName : Leader 0",
        "target": "Leader 0 leads City 0, 0.",
        "part": "seen",
    }
    assert splits["test"]["part"].count("unseen") == 4
    out = data / "out"
    out.mkdir()
    record = execute(
        make_run(model="tiny-decoder", task="webnlg:beams=2:max_new_tokens=3", steps=1), out, Conditions()
    )
    assert record.quality is not None
    assert {f"{m}{p}" for m in ("bleu_words", "chrf", "ter") for p in ("", " (seen)", " (unseen)")} <= set(
        record.quality
    )


def test_dart_lowers_its_relations_and_can_be_cut_off_one_split(data: Path) -> None:
    rows = [
        {
            "tripleset": [["Mars Hill", "JOINED", str(i)]],
            "annotations": [{"text": f"It joined in {i}."}, {"text": " "}],
        }
        for i in range(40)
    ]
    written(data / "dart" / "validation.json", json.dumps(rows))
    with pytest.raises(UsageError, match="has no train split"):
        build_task("dart").splits()
    task = build_task("dart:cut_from=validation:inputs=5")
    splits = task.splits()
    assert len(splits["test"]) == 5 and 25 <= len(splits["train"]) <= 31
    assert splits["train"][0]["source"].startswith("Mars Hill : joined : ")
    assert not set(splits["train"]["source"]) & set(splits["test"]["source"])
    assert "not comparable" in notices_of(task)[0]


def test_samsum(data: Path) -> None:
    for split in ("train", "validation", "test"):
        written(
            data / "samsum" / f"{split}.jsonl",
            [{"dialogue": f"A: {split}\r\nB: {i}", "summary": "x"} for i in range(4)],
        )
    splits = build_task("samsum:inputs=2").splits()
    assert splits["test"]["source"] == ["A: test\nB: 0", "A: test\nB: 3"] and len(splits["train"]) == 4


@pytest.mark.parametrize("layout", ["published", "hub"])
def test_wikisql_asks_for_a_query(layout: str, data: Path) -> None:
    def row(i: int) -> dict[str, Any]:
        if layout == "hub":
            conditions = {"column_index": [1, 2], "operator_index": [1, 0], "condition": [str(i), "Toronto"]}
            return {
                "question": "Who?",
                "table": {"id": f"t{i}", "header": HEADER},
                "sql": {"sel": 0, "agg": 3, "conds": conditions},
            }
        return {
            "question": "Who?",
            "table_id": f"t{i}",
            "sql": {"sel": 0, "agg": 3, "conds": [[1, 1, i], [2, 0, "Toronto"]]},
        }

    for name, items in (("train", 30), ("dev", 4)):
        written(data / "wikisql" / f"{name}.jsonl", [row(i) for i in range(items)])
        if layout == "published":
            written(
                data / "wikisql" / f"{name}.tables.jsonl",
                [{"id": f"t{i}", "header": HEADER} for i in range(items)],
            )
    task = build_task("wikisql")
    splits = task.splits()
    assert splits["test"][0] == {
        "source": "Who?\nColumns: Player, No., Team",
        "target": "SELECT COUNT Player FROM table WHERE No. > 0 AND Team = Toronto",
        "group": "t0",
    }
    assert len(splits["train"]) == 27 and len(splits["validation"]) == 3
    before = task.fingerprint()
    if layout == "published":
        written(
            data / "wikisql" / "dev.tables.jsonl", [{"id": f"t{i}", "header": HEADER[::-1]} for i in range(3)]
        )
        assert build_task("wikisql").fingerprint() != before
        with pytest.raises(UsageError, match=r"row 4: not laid out as published, or its table is not in"):
            build_task("wikisql").splits()


def metric_of(task: str, name: str) -> TextMetric:
    """A metric that a task brings."""
    (found,) = [metric for metric in build_task(task).objective.reported if metric.name == name]
    assert isinstance(found, TextMetric) and name not in TEXT_METRICS
    return found


def value(metric: TextMetric, hypotheses: list[str], references: list[list[str]]) -> float:
    return metric.value(metric.statistics(hypotheses, references).sum(0))


def test_a_query_is_judged_by_what_it_asks() -> None:
    wanted = "SELECT Player FROM table WHERE No. > 3 AND Team = Toronto"
    said = {
        "select player from table  where team = toronto and no. > 3": 1.0,
        "SELECT Player FROM table WHERE No. > 3": 0.0,
        "SELECT MAX Player FROM table WHERE No. > 3 AND Team = Toronto": 0.0,
        "SELECT Player FROM table": 0.0,
    }
    named = "SELECT Where to FROM table WHERE Where to = a AND No. = 1"
    swapped = "select where to from table where no. = 1 and where to = a"
    logical_form = metric_of("wikisql", "logical_form")
    assert logical_form.statistics([swapped], [[named]])[0, 0] == 1.0
    found = logical_form.statistics(list(said), [[wanted]] * len(said))
    assert found[:, 0].tolist() == list(said.values())


def test_bleu_over_words_and_marks() -> None:
    """As sacrebleu gives it for text that was lowered and cut by hand, with six references at most."""
    import sacrebleu

    texts = ["The Aarhus-Airport has 2,702 m.", "Jacob leads it."]
    cut = ["the aarhus - airport has 2 , 702 m .", "jacob leads it ."]
    references = [
        ["the Aarhus - airport has 2 , 702 metres ."],
        ["a b", "c", "d", "e", "f", "Jacob leads them .", "Jacob leads it ."],
    ]
    padded = [[its[min(i, len(its) - 1)].lower() for its in (r[:6] for r in references)] for i in range(6)]
    found = value(metric_of("webnlg", "bleu_words"), texts, references)
    assert found * 100 == pytest.approx(sacrebleu.corpus_bleu(cut, padded, tokenize="none").score)


def test_rouge_l_of_e2e_by_hand() -> None:
    metric, weight = metric_of("e2e-nlg", "rouge_l_e2e"), 1.2**2
    assert value(metric, ["a b"], [["a b c d"]]) == pytest.approx(
        (1 + weight) * 1.0 * 0.5 / (0.5 + weight * 1.0)
    )
    # Precision 1 from the first, recall 1 from the second.
    assert value(metric, ["a b"], [["a b c d", "b"]]) == pytest.approx(1)
    assert value(metric, ["a b", "a"], [["A, b."], ["c"]]) == pytest.approx(0.5)


def test_nist_of_e2e_pools_the_references_and_takes_their_mean_length() -> None:
    pooled, best = metric_of("e2e-nlg", "nist_e2e"), TEXT_METRICS["nist"]
    # Four words, each once: 2 bits. `a b` matches one word with either reference, both with the two.
    assert value(best, ["a b"], [["a c", "d b"]]) == pytest.approx(2 / 2)
    assert value(pooled, ["a b"], [["a c", "d b"]]) == pytest.approx(4 / 2)
    # Two words of three on average: by definition half is left of (log2(6) + log2(6)) / 2 + log2(1) / 1.
    found = value(pooled, ["a b"], [["a b c d", "e f"]])
    assert found == pytest.approx(0.5 * (math.log2(6) + 0))
    texts, first = ["the pub by the river", "a b"], [["the pub near the river"], ["a b c"]]
    assert value(pooled, texts, first) == pytest.approx(value(best, texts, first), rel=1e-12)


def test_bleu_of_e2e_ignores_case() -> None:
    texts, references = ["The Pub by the River serves Food"], [["the pub by the river serves Food"]]
    assert value(metric_of("e2e-nlg", "bleu_e2e"), texts, references) == pytest.approx(1)
    assert value(TEXT_METRICS["bleu"], texts, references) < 0.8


def test_a_layout_that_is_not_the_published_one_is_said(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written(data / "dart" / "validation.json", '{"rows": []}')
    with pytest.raises(UsageError, match="dart/validation.json is not laid out as published"):
        build_task("dart:cut_from=validation").splits()
    written(data / "dart" / "validation.json", "[")
    with pytest.raises(UsageError, match="can't be read as JSON"):
        build_task("dart:cut_from=validation").splits()
    monkeypatch.delenv(published.VARIABLE)
    with pytest.raises(UsageError, match="give --data-dir DIR with webnlg/train.json"):
        build_task("webnlg").splits()
    with pytest.raises(
        UsageError, match="give --data-dir DIR with wikisql/train.jsonl and its .tables.jsonl"
    ):
        build_task("wikisql").fingerprint()
    with pytest.raises(UsageError, match="must be 0"):
        build_task("dart:inputs=-1")
