"""A conversation as what a decoder learns and is scored on: which tokens, what is cut, which models can't."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from peftbench import Chat, NotSupported, UsageError
from peftbench.models.load import load_model
from peftbench.models.resolve import resolve_model
from peftbench.models.starters import byte_tokenizer
from peftbench.objectives.base import IGNORED
from peftbench.objectives.chat import source_text
from peftbench.objectives.chat_template import Conversation
from peftbench.objectives.decoding import Decoding

TEMPLATE = (
    "{% for m in messages %}[CLS]{{ m.role }}\n{{ m.content | trim }}[SEP]\n{% endfor %}"
    "{% if add_generation_prompt %}[CLS]assistant\n{% endif %}"
)
STRICT = "{% if messages[0].content == 'no' %}{{ raise_exception('Begin otherwise') }}{% endif %}" + TEMPLATE
MARKED_TOO_FAR = (
    "{% for m in messages %}{% if m.role == 'user' %}[CLS]{% else %}{% generation %}"
    "{{ messages[loop.index0 - 1].content }}{{ m.content }}[SEP]{% endgeneration %}{% endif %}{% endfor %}"
)
CHAT = Chat(decoding=Decoding(max_new_tokens=8), template=TEMPLATE)


def source(*turns: str) -> str:
    roles = ("user", "assistant")
    messages = [{"role": roles[i % 2], "content": text} for i, text in enumerate(turns)]
    return source_text(Conversation(({"role": "system", "content": "Be short."}, *messages)))


def encoded(source: str, target: str, max_length: int = 200, chat: Chat = CHAT) -> dict[str, Any]:
    found = chat.encode(byte_tokenizer(), {"source": [source], "target": [target]}, max_length)
    return {name: values[0] for name, values in found.items()}


def text(ids: list[int]) -> str:
    return str(byte_tokenizer().decode(ids, clean_up_tokenization_spaces=False))


def test_every_reply_is_learned_and_the_last_one_asked_for() -> None:
    row = encoded(source("Hi", "Hello", "And?"), "Yes")
    assert text([i for i in row["labels"] if i != IGNORED]) == "Hello[SEP]Yes[SEP]"
    prompt = text(row["input_ids"][: row["source_tokens"]])
    assert prompt.endswith("[CLS]user\nAnd?[SEP]\n[CLS]assistant\n") and "Yes" not in prompt
    assert not any(row[name] for name in CHAT.counted if name != "unread")


def test_a_long_conversation_loses_its_first_turns_and_keeps_what_stands_before_them() -> None:
    long = source("a" * 60, "b" * 60, "c?", "d", "e?")
    row = encoded(long, "Yes", 100)
    said = text(row["input_ids"])
    assert row["cut"] and not row["beheaded"]
    assert said.startswith("[CLS]system\nBe short.[SEP]\n[CLS]user\nc?") and said.endswith("Yes[SEP]")
    assert row["source_tokens"] <= 100 - 8
    # Neither depends on the reply, which nobody has who asks.
    other = encoded(long, "No" * 40, 100)
    assert other["input_ids"][: other["source_tokens"]] == row["input_ids"][: row["source_tokens"]]
    assert other["unended"] and len(other["input_ids"]) == 100
    alone = encoded(source("a" * 300), "Yes", 100)
    assert (
        alone["beheaded"] and alone["source_tokens"] == 92 and text(alone["input_ids"]).endswith("Yes[SEP]")
    )


def test_what_is_lost_or_odd_is_counted() -> None:
    assert encoded(source("Hi [SEP] you"), "Yes")["unwritten"]
    assert encoded(source("Hi"), "Yes" * 9)["stopped"]
    silent = dataclasses.replace(CHAT, template=TEMPLATE.replace("[CLS]assistant", "[CLS]robot"))
    assert encoded(source("Hi"), "Yes", chat=silent)["unasked"]


def test_a_row_that_a_template_refuses_is_named() -> None:
    bad = source_text(Conversation(({"role": "user", "content": "no"},)))
    strict = dataclasses.replace(CHAT, template=STRICT)
    with pytest.raises(
        UsageError, match="begins with 'no': the chat template can't write it: Begin otherwise"
    ):
        encoded(bad, "Yes", chat=strict)


@pytest.mark.parametrize(
    ("template", "why"),
    [
        (None, "has no chat template"),
        (" \n", "chat template that is empty"),
        ("{% for m in messages %}{{ m.content }} {% endfor %}", "no special token"),
        # Marks around everything, as published trainers have learned by mistake.
        (MARKED_TOO_FAR, "would be learned"),
    ],
)
def test_a_template_that_does_not_tell_the_assistant_apart_is_refused(template: str | None, why: str) -> None:
    with pytest.raises(NotSupported, match=why):
        dataclasses.replace(CHAT, template=template).check_tokenizer(byte_tokenizer())


def test_models_that_can_not_are_refused_by_name(checkpoint: Callable[[str], str]) -> None:
    CHAT.check_tokenizer(byte_tokenizer())
    for family, chat, why in (
        ("llama", dataclasses.replace(CHAT, template=None), "has no chat template"),
        ("bert", CHAT, "is no decoder"),
        ("t5", CHAT, "is no decoder"),
    ):
        with pytest.raises(NotSupported, match=why):
            load_model(resolve_model(checkpoint(family)), chat, 0)


def test_the_likelihood_is_that_of_the_assistants_tokens(checkpoint: Callable[[str], str]) -> None:
    import torch

    from peftbench.execution import batches

    loaded = load_model(resolve_model(checkpoint("llama")), CHAT, 0)
    rows = {"source": [source("Hi", "Hello", "And?"), source("So")], "target": ["Yes", "No, never"]}
    found = CHAT.encode(loaded.tokenizer, rows, 100)
    lists = {
        name: batches.Ragged(
            np.concatenate([np.array(its) for its in found[name]]),
            np.cumsum([0, *map(len, found[name])]),
        )
        for name in ("input_ids", "labels")
    }
    split = batches.Encoded(lists, {})
    batch = batches.collate(
        split, np.arange(2), batches.padding(loaded.tokenizer), torch.device("cpu"), left=False
    )
    with torch.no_grad():
        nll = CHAT.predict(loaded.model(**batches.inputs_of(batch)).logits, batch)["nll"]
        for row in range(2):
            ids = torch.tensor([found["input_ids"][row]])
            logs = loaded.model(input_ids=ids).logits[0].log_softmax(-1)
            places = [i for i, label in enumerate(found["labels"][row]) if label != IGNORED]
            alone = -float(np.mean([float(logs[i - 1, ids[0, i]]) for i in places]))
            assert alone == pytest.approx(float(nll[row]), abs=1e-5)


def test_calls_and_functions_are_written_in_their_own_order() -> None:
    template = "{% for t in tools or [] %}{{ t | tojson }}{% endfor %}" + TEMPLATE.replace(
        "[SEP]", "{% if m.tool_calls %}{{ m.tool_calls | tojson }}{% endif %}[SEP]"
    )
    call = {"type": "function", "function": {"name": "add", "arguments": {"z": 1, "a": 2}}}
    messages = (
        {"role": "user", "content": "1 + 2?"},
        {"role": "assistant", "content": "", "tool_calls": [call]},
        {"role": "tool", "content": ""},
    )
    before = source_text(Conversation(messages, ({"type": "function", "function": {"name": "add"}},)))
    row = encoded(before, "3", 500, dataclasses.replace(CHAT, template=template))
    said = text(row["input_ids"])
    assert '{"z": 1, "a": 2}' in said and said.startswith('{"type": "function", "function": {"name": "add"}}')


def test_a_conversation_of_many_turns_is_cut_by_few_renderings(monkeypatch: pytest.MonkeyPatch) -> None:
    from peftbench.objectives import chat as module
    from peftbench.objectives import chat_template

    calls: list[int] = []

    def counted(*given: Any) -> Any:
        calls.append(1)
        return render(*given)

    render = chat_template.render
    monkeypatch.setattr(module, "render", counted)
    turns = [f"turn {i}" for i in range(401)]
    row = encoded(source(*turns), "Yes", 200)
    prompt = text(row["input_ids"][: row["source_tokens"]])
    assert row["cut"] and row["source_tokens"] <= 192 and prompt.endswith("turn 400[SEP]\n[CLS]assistant\n")
    assert row["source_tokens"] > 192 - 2 * len("[CLS]assistant\nturn 400[SEP]\n")
    assert len(calls) < 15


def test_only_what_is_learned_counts_as_lost_at_the_end() -> None:
    reply = "Yes" * 3
    length = len(encoded(source("Hi"), reply)["input_ids"])  # what stands behind the end is left out
    fits = encoded(source("Hi"), reply, length)
    assert not fits["unended"] and encoded(source("Hi"), reply, length - 1)["unended"]


def test_writing_stops_at_the_end_that_the_template_writes() -> None:
    tokenizer = byte_tokenizer()
    tokenizer.add_special_tokens({"eos_token": "<eos>"})
    assert CHAT.ends(tokenizer) == [tokenizer.sep_token_id] != [tokenizer.eos_token_id]
    thinks = (
        "{% for m in messages %}[CLS]{% if m.role == 'user' %}{{ m.content }}[SEP]{% else %}{% generation %}"
        "[MASK]{{ m.content }}[SEP]\n<eos>{% endgeneration %}{% endif %}{% endfor %}"
    )
    assert dataclasses.replace(CHAT, template=thinks).ends(tokenizer) == [tokenizer.sep_token_id]
    assert "ends with `[SEP]`" in CHAT.said_of_use(tokenizer)[0]
