"""Which tokens of a conversation are the assistant's: by published templates, against marks that trl's maintainers set in them."""

from __future__ import annotations

import re
from importlib.resources import files
from typing import Any

import pytest

from peftbench.models.starters import byte_tokenizer
from peftbench.objectives.chat_template import Conversation, Rendered, Unclear, render

SAID = (
    {"role": "user", "content": "Hi there"},
    {"role": "assistant", "content": "Hello.\n\nYou"},
    {"role": "user", "content": "What?"},
    {"role": "assistant", "content": "It is so."},
)
PLAIN = (
    "{% for m in messages %}[CLS]{{ m.role }}\n{{ m.content | trim }}[SEP]\n{% endfor %}"
    "{% if add_generation_prompt %}[CLS]assistant\n{% endif %}"
)
TAKES_AWAY = "{% for m in messages %}[CLS]{{ m.content.split('</think>')[-1] }}[SEP]{% endfor %}"
# Published templates by the names of their files, and what ends an answer.
ALIKE = {
    "cohere": "<|END_OF_TURN_TOKEN|>",
    "cohere2": "<|END_RESPONSE|><|END_OF_TURN_TOKEN|>",
    "diffusion_gemma": "<turn|>",
    "gemma": "<end_of_turn>",
    "gemma3": "<end_of_turn>",
    "lfm2": "<|im_end|>",
    "lfm2_v2": "<|im_end|>",
    "llama3": "<|eot_id|>",
    "phi3": "<|end|>",
    "phi3_5": "<|end|>",
    "qwen2_5": "<|im_end|>",
    "qwen2_5_vl": "<|im_end|>",
    "qwen3_instruct_2507": "<|im_end|>",
}
END_OF_TEXT = ("phi3", "phi3_5")  # their marks take it in, behind the last message's own end
# The same, where the marks take in more of what stands before the words: an empty passage of thinking, or a channel's name.
MORE = {
    "qwen3": ("<|im_end|>", "<think>\n\n</think>\n\n"),
    "qwen3_6": ("<|im_end|>", "\n</think>\n\n"),  # a prompt for an answer has the first half
    "gptoss": ("<|end|>", "<|channel|>final<|message|>"),
}


def tokenizer_for(template: str, end: str) -> Any:
    """Bytes, and the special tokens that a template writes."""
    tokenizer = byte_tokenizer()
    special = set(re.findall(r"<\|?[\w｜▁]+\|?>", template)) - {"<think>", "<tool_call>", "<tools>"}
    tokenizer.add_special_tokens({"additional_special_tokens": sorted(special)})
    tokenizer.add_special_tokens(
        {"bos_token": "<s>", "eos_token": re.findall(r"<[^<]+>", end)[-1] if end else "[SEP]"}
    )
    return tokenizer


def published(name: str) -> str:
    pytest.importorskip("trl", reason="trl's templates are the oracle")
    return (files("trl") / "chat_templates" / f"{name}.jinja").read_text(encoding="utf-8")


def learned(tokenizer: Any, rendered: Rendered) -> list[str]:
    """The passages that are learned."""
    passages: list[list[int]] = []
    before = False
    for token, spoken in zip(rendered.ids, rendered.spoken, strict=True):
        if spoken and not before:
            passages.append([])
        if spoken:
            passages[-1].append(token)
        before = spoken
    return [tokenizer.decode(ids, clean_up_tokenization_spaces=False) for ids in passages]


@pytest.mark.parametrize("name", ALIKE)
def test_the_assistants_words_are_those_that_trl_marks(name: str) -> None:
    template, end = published(name), ALIKE[name]
    tokenizer = tokenizer_for(template, end)
    own = render(tokenizer, template, Conversation(SAID))
    marked = render(tokenizer, published(f"{name}_training"), Conversation(SAID))
    assert learned(tokenizer, own) == [f"Hello.\n\nYou{end}", f"It is so.{end}"]
    assert own.ids == marked.ids and own.as_asked and not own.straddling
    more = [i for i, (a, b) in enumerate(zip(own.spoken, marked.spoken, strict=True)) if a != b]
    assert not more or name in END_OF_TEXT
    assert all(i > max(place for place, spoken in enumerate(own.spoken) if spoken) for i in more)


@pytest.mark.parametrize("name", MORE)
def test_what_a_template_writes_before_the_words_is_learned_where_it_marks_it(name: str) -> None:
    template, (end, passage) = published(name), MORE[name]
    tokenizer = tokenizer_for(template, end)
    said = Conversation(SAID[:2])
    last = end.replace("<|end|>", "<|return|>")
    own = render(tokenizer, template, said)
    assert learned(tokenizer, own) == [f"Hello.\n\nYou{last}"] and not own.as_asked
    marked = render(tokenizer, published(f"{name}_training"), said)
    assert learned(tokenizer, marked) == [f"{passage}Hello.\n\nYou{last}"]


def test_a_call_is_learned_and_what_a_tool_answers_is_not() -> None:
    template = published("qwen2_5")
    tokenizer = tokenizer_for(template, "<|im_end|>")
    call = {"type": "function", "function": {"name": "add", "arguments": {"a": 1}}}
    said = Conversation(
        (
            {"role": "user", "content": "1 + 1?"},
            {"role": "assistant", "content": "", "tool_calls": [call]},
            {"role": "tool", "content": "two"},
            {"role": "assistant", "content": "It is 2."},
        ),
        ({"type": "function", "function": {"name": "add", "parameters": {}}},),
    )
    own = render(tokenizer, template, said)
    called, reply = learned(tokenizer, own)
    assert (
        called == '<tool_call>\n{"name": "add", "arguments": {"a": 1}}\n</tool_call><|im_end|>'
        and reply == "It is 2.<|im_end|>"
    )
    assert render(tokenizer, published("qwen2_5_training"), said).spoken == own.spoken


def test_a_message_of_weight_0_is_not_learned() -> None:
    tokenizer = byte_tokenizer()
    said = Conversation(({**SAID[0]}, {**SAID[1], "weight": 0}, *SAID[2:]))
    assert learned(tokenizer, render(tokenizer, PLAIN, said)) == ["It is so.[SEP]"]


def test_the_reply_begins_where_a_prompt_for_it_ends() -> None:
    tokenizer = byte_tokenizer()
    found = render(tokenizer, PLAIN, Conversation(SAID))
    asked = tokenizer.apply_chat_template(
        list(SAID[:-1]), chat_template=PLAIN, add_generation_prompt=True, tokenize=False
    )
    assert tokenizer(asked, add_special_tokens=False)["input_ids"] == found.ids[: found.reply]
    without = PLAIN[: PLAIN.index("{% if")]
    assert not render(tokenizer, without, Conversation(SAID)).as_asked


@pytest.mark.parametrize(
    ("template", "said", "why"),
    [
        ("{{ raise_exception('No system here') }}", SAID, "No system here"),
        ("{% for m in messages %}{{ m.content", SAID, "can't write it"),
        (
            "{% for m in messages %}{{ m.content | upper }}[SEP]{% endfor %}",
            SAID,
            "several times, or not at all",
        ),
        ("{% for m in messages %}{{ m.content }} | {% endfor %}", SAID, "no special token"),
        (
            TAKES_AWAY,
            (SAID[0], {"role": "assistant", "content": "<think>hm</think>Yes"}),
            "changes what the assistant said",
        ),
        (
            "{% for m in messages %}{{ m.role }}{% generation %}{{ m.content }}[SEP]{% endgeneration %}{% endfor %}",
            SAID,
            "marks 4 passages",
        ),
    ],
)
def test_nothing_is_guessed(template: str, said: Any, why: str) -> None:
    with pytest.raises(Unclear, match=re.escape(why)):
        render(byte_tokenizer(), template, Conversation(tuple(said)))


def test_an_end_that_takes_the_white_space_behind_it_is_learned() -> None:
    from tokenizers import AddedToken

    tokenizer = byte_tokenizer()
    ends = [
        AddedToken(name, rstrip=True, special=True) for name in ("<|end|>", "<|assistant|>")
    ]  # as Phi-3's do
    tokenizer.add_special_tokens({"additional_special_tokens": ends})
    template = "{% for m in messages %}<|{{ m.role }}|>\n{{ m.content }}<|end|>\n{% endfor %}"
    found = render(tokenizer, template, Conversation(SAID))
    assert learned(tokenizer, found) == ["Hello.\n\nYou<|end|>", "It is so.<|end|>"]


@pytest.mark.parametrize("reply", ["Yes ", "Yes\n", " Yes"])
def test_white_space_that_a_template_takes_away_and_writes_again(reply: str) -> None:
    template = (
        "{% for m in messages %}[CLS]{{ m.role }} {{ m.content | trim }} [SEP]{% endfor %}"  # as Llama 2's
    )
    said = Conversation((SAID[0], {"role": "assistant", "content": reply}))
    tokenizer = byte_tokenizer()
    assert learned(tokenizer, render(tokenizer, template, said)) == ["Yes [SEP]"]


def test_what_is_put_in_the_place_of_a_reply_may_be_said() -> None:
    tokenizer = byte_tokenizer()
    said = Conversation(({"role": "user", "content": f"reply1{'x' * 12}"}, SAID[1]))
    assert learned(tokenizer, render(tokenizer, PLAIN, said)) == ["Hello.\n\nYou[SEP]"]


def test_reasoning_is_learned_where_a_template_marks_it_and_refused_where_it_writes_it_alone() -> None:
    writes = "{% for m in messages %}[CLS]{{ m.reasoning_content }}{{ m.content }}[SEP]{% endfor %}"
    said = Conversation((SAID[0], {**SAID[1], "reasoning_content": "Hm."}))
    tokenizer = byte_tokenizer()
    with pytest.raises(Unclear, match="reasoning_content, which would not be learned"):
        render(tokenizer, writes, said)
    assert learned(tokenizer, render(tokenizer, PLAIN, said)) == ["Hello.\n\nYou[SEP]"]
    marks = (
        "{% for m in messages %}[CLS]{% if m.role == 'user' %}{{ m.content }}[SEP]{% else %}{% generation %}"
        "{{ m.reasoning_content }}{{ m.content }}[SEP]{% endgeneration %}{% endif %}{% endfor %}"
    )
    assert learned(tokenizer, render(tokenizer, marks, said)) == ["Hm.Hello.\n\nYou[SEP]"]


def test_marks_without_the_end_are_refused() -> None:
    template = (
        "{% for m in messages %}[CLS]{% if m.role == 'user' %}{{ m.content }}{% else %}{% generation %}"
        "{{ m.content }}{% endgeneration %}{% endif %}[SEP]{% endfor %}"
    )
    with pytest.raises(Unclear, match="without the token that ends it, up to 'It is so.'|up to 'Hello"):
        render(byte_tokenizer(), template, Conversation(SAID))


@pytest.mark.parametrize(
    "mark", ["{% generation %}{{ m.content }}[SEP]{% endgeneration %}", "{{ m.content }}[SEP]"]
)
def test_it_is_always_the_same_day(mark: str) -> None:
    template = (
        "{% macro day() %}{{ strftime_now('%d %b %Y') }}{% endmacro %}{{ day() }} {{ strftime_now('%Y-%m-%d') }}"
        "{% for m in messages %}[CLS]{% if m.role == 'user' %}{{ m.content }}[SEP]{% else %}"
        + mark
        + "{% endif %}{% endfor %}"
    )
    tokenizer = byte_tokenizer()
    found = render(tokenizer, template, Conversation(SAID))
    assert str(tokenizer.decode(found.ids)).startswith("26 Jul 2024 2024-07-26[CLS]Hi")
    assert learned(tokenizer, found) == ["Hello.\n\nYou[SEP]", "It is so.[SEP]"]
