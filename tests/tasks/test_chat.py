"""The user's own conversations: every layout gives the same rows, and what is wrong is named by row and column before anything trains."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest

from peftbench import UsageError
from peftbench.comparison.request import Comparison
from peftbench.engine.protocol import Capacity, Device
from peftbench.planning.plan import plan
from peftbench.plugins.build import build_task

TEMPLATE = (
    "{% for m in messages %}[CLS]{{ m.role }}\n{{ m.content }}[SEP]\n{% endfor %}"
    "{% if add_generation_prompt %}[CLS]assistant\n{% endif %}"
)
PAIRS = [(f"What is {i}?", f"It is {i}.") for i in range(40)]
SERVICES = {"user": "user", "assistant": "assistant"}
SHAREGPT = {"user": "human", "assistant": "gpt"}


def told(question: str, answer: str) -> list[tuple[str, str]]:
    return [("user", "Hello"), ("assistant", "Yes?"), ("user", question), ("assistant", answer)]


def layouts(kind: str) -> list[dict[str, Any]]:
    if kind == "sides":
        return [{"user": question, "assistant": answer} for question, answer in PAIRS]
    if kind == "conversations":
        return [
            {kind: [{"from": SHAREGPT[role], "value": text} for role, text in told(*pair)]} for pair in PAIRS
        ]
    return [{kind: [{"role": role, "content": text} for role, text in told(*pair)]} for pair in PAIRS]


def write(file: Path, rows: list[dict[str, Any]]) -> Path:
    if file.suffix == ".parquet":
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), file)
    else:
        file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return file


def rows_of(text: str) -> dict[str, list[tuple[str, str]]]:
    splits = build_task(text).splits()
    return {split: list(zip(rows["source"], rows["target"], strict=True)) for split, rows in splits.items()}


def test_every_layout_gives_the_same_rows(tmp_path: Path) -> None:
    first = rows_of(f"chat:path={write(tmp_path / 'a.jsonl', layouts('messages'))}")
    assert {split: len(rows) for split, rows in first.items()} == {"train": 28, "validation": 4, "test": 8}
    source, target = first["test"][0]
    before = json.loads(source)
    assert [m["content"] for m in before["messages"]][:2] == ["Hello", "Yes?"] and target.startswith("It is ")
    assert (
        rows_of(f"chat:path={write(tmp_path / 'b.jsonl', layouts('conversations'))}") == first
        and rows_of(f"chat:path={write(tmp_path / 'c.parquet', layouts('messages'))}") == first
        and rows_of(f"chat:path={write(tmp_path / 'd.jsonl', layouts('talk'))}:messages=talk") == first
    )
    sides = rows_of(f"chat:path={write(tmp_path / 'e.jsonl', layouts('sides'))}")
    assert sum(map(len, sides.values())) == 40
    assert json.loads(sides["train"][0][0])["messages"][0]["role"] == "user"


def test_what_follows_the_last_reply_is_left_out_and_said(tmp_path: Path) -> None:
    rows = layouts("messages")
    rows[3]["messages"].append({"role": "user", "content": "Thanks"})
    rows[5]["messages"][-1]["weight"] = 0
    found: Any = build_task(f"chat:path={write(tmp_path / 'a.jsonl', rows)}")
    targets = [target for split in found.splits().values() for target in split["target"]]
    assert "It is 3." in targets and "It is 5." not in targets and "Yes?" in targets
    assert any(notice.startswith("2 conversations of the train file go on") for notice in found.notices())


@pytest.mark.parametrize(
    ("row", "why"),
    [
        ({"messages": [{"role": "user", "content": "a"}]}, "column 'messages': no message is the assistant's"),
        ({"messages": [{"role": "wizard", "content": "a"}]}, "message 1: its role is 'wizard', none of assistant"),
        (
            {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": " "}]},
            "message 2: the assistant's text is empty",
        ),
        ({"messages": "x"}, "column 'messages': it is no list of messages"),
        ({"conversations": []}, "column 'conversations': it is no list of messages"),
        ({"user": "a", "assistant": ""}, "column 'assistant': the assistant's text is empty"),
        ({"text": "a"}, "and the row has text; name its column with :messages=COLUMN"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "is 'image_url', and texts alone"),
        ({"messages": [{"role": "assistant", "content": "b", "weight": 2}]}, "its weight is 2"),
        ({"messages": [{"role": "assistant", "tool_calls": [{"function": {"name": "f"}}]}]}, "calls of functions"),
        ({"messages": [{"role": "assistant", "tool_calls": [7]}]}, "no object with name and arguments"),
        ({"messages": [{"role": "assistant", "content": "b"}], "tools": "x"}, "column 'tools': it is no list"),
    ],
)  # fmt: skip
def test_a_wrong_row_is_named(row: dict[str, Any], why: str, tmp_path: Path) -> None:
    file = write(tmp_path / "a.jsonl", [*layouts("messages"), row])
    with pytest.raises(UsageError) as caught:
        build_task(f"chat:path={file}").splits()
    assert "row 41, " in str(caught.value) and why in str(caught.value)


def test_a_row_that_the_template_refuses_stops_the_plan(tmp_path: Path) -> None:
    rows = layouts("messages")
    template = tmp_path / "t.jinja"
    template.write_text(
        "{% if messages[-1].content == 'It is 7.' %}{{ raise_exception('No seven') }}{% endif %}" + TEMPLATE,
        encoding="utf-8",
    )
    text = f"chat:path={write(tmp_path / 'a.jsonl', rows)}:template={template}"
    asked = Comparison(("lora",), ("tiny-decoder",), (text,), steps=1, seeds=1, baselines=False)
    with pytest.raises(UsageError, match="begins with 'Hello': the chat template can't write it: No seven"):
        plan(asked, Capacity((Device("cpu", 1, 2**33, True),), cores=1))
    template.write_text(TEMPLATE, encoding="utf-8")
    assert plan(asked, Capacity((Device("cpu", 1, 2**33, True),), cores=1))


def test_another_template_is_another_run(tmp_path: Path) -> None:
    file = write(tmp_path / "a.jsonl", layouts("messages"))
    one, other = tmp_path / "1.jinja", tmp_path / "2.jinja"
    one.write_text(TEMPLATE, encoding="utf-8")
    other.write_text(TEMPLATE.replace("[CLS]", "[CLS] "), encoding="utf-8")
    prints = {
        build_task(f"chat:path={file}{of}").fingerprint()
        for of in ("", f":template={one}", f":template={other}")
    }
    assert len(prints) == 3
    with pytest.raises(UsageError, match="can't be read: No such file"):
        build_task(f"chat:path={file}:template={tmp_path / 'none.jinja'}").objective  # noqa: B018


def test_fields_that_other_rows_alone_have_are_not_said_in_parquet(tmp_path: Path) -> None:
    def row(number: int) -> dict[str, Any]:
        arguments = {"a": number} if number % 2 else {"b": number}
        call = {"id": f"call{number}", "type": "function", "function": {"name": "f", "arguments": arguments}}
        return {
            "messages": [
                {"role": "user", "content": f"Do {number}", "tool_calls": None},
                {"role": "assistant", "content": None, "tool_calls": [call]},
                {"role": "tool", "content": "done", "tool_calls": None},
                {"role": "assistant", "content": f"Did {number}", "tool_calls": None},
            ]
        }

    rows = rows_of(f"chat:path={write(tmp_path / 'a.parquet', [row(number) for number in range(40)])}")
    calls = [json.loads(source)["messages"][1]["tool_calls"][0] for source, _ in rows["train"]]
    assert all(len(call["function"]["arguments"]) == 1 for call in calls)
    assert all(call["id"].startswith("call") for call in calls)


def test_reasoning_beside_the_last_reply_and_a_role_that_is_no_word_are_refused(tmp_path: Path) -> None:
    for odd, why in (
        (
            {"role": "assistant", "content": "Yes", "reasoning_content": "Hm"},
            "would be neither learned nor scored",
        ),
        ({"role": ["assistant"], "content": "Yes"}, r"its role is \['assistant'\]"),
    ):
        rows = [*layouts("messages"), {"messages": [{"role": "user", "content": "Hi"}, odd]}]
        with pytest.raises(UsageError, match=f"row 41, column 'messages': .*{why}"):
            rows_of(f"chat:path={write(tmp_path / 'a.jsonl', rows)}")
