"""A conversation as a model's chat template writes it, and which of its tokens the assistant said.

A template may mark that itself (`{% generation %}`). In one that does not, the assistant's words are found by writing the conversation a
second time with other words in their places: what is the same in both is the template's, and the first text must be put together from it
again, letter by letter. Where that fails, nothing is guessed.
"""

from __future__ import annotations

import functools
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

ASSISTANT, SYSTEM, USER, TOOL = ROLES = "assistant", "system", "user", "tool"
REASONING = "reasoning_content"  # of a message, what the assistant thought before it spoke
Message = dict[
    str, Any
]  # `role` and `content`, and perhaps `tool_calls`, `weight` and what else a template reads
# In place of the library's function of this name, which says the time.
A_DAY = (
    "{%- macro strftime_now(format) -%}{{- format | replace('%d', '26') | replace('%m', '07') | replace('%b', 'Jul') | replace('%B', 'July') "
    "| replace('%Y', '2024') | replace('%y', '24') | replace('%A', 'Friday') | replace('%a', 'Fri') | replace('%H', '12') "
    "| replace('%I', '12') | replace('%M', '00') | replace('%S', '00') | replace('%p', 'PM') -}}{%- endmacro -%}"
)
Span = tuple[int, int]  # from this letter or token up to that one


class Unclear(Exception):
    """What the assistant said can't be told from the rest; the reason follows the words "the chat template"."""


@dataclass(frozen=True)
class Conversation:
    """What was said, and the functions that the assistant was offered."""

    messages: tuple[Message, ...]  # the last is the assistant's
    tools: tuple[Any, ...] = ()


@dataclass(frozen=True)
class Rendered:
    """A conversation as tokens, (length,) each."""

    ids: list[int]
    spoken: list[bool]  # of each token, whether it is the assistant's and learned
    reply: int  # where the tokens of the last reply begin
    end: int  # and where they end
    straddling: bool  # a token holds both what the template writes and a part of what was said
    as_asked: bool  # what stands before the last reply is what the template writes for who asks


def render(tokenizer: Any, template: str | None, said: Conversation) -> Rendered:
    """The tokens of a conversation.

    Args:
        template: Jinja, in place of the tokenizer's own.

    Raises:
        Unclear: the template raises, or what the assistant said can't be told from the rest.
    """
    written = _Writer(tokenizer, template, said.tools)
    text = written.text(said.messages)
    turns = written.spans(said.messages, text)
    encoded = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    ids, where = encoded["input_ids"], encoded["offset_mapping"]
    spoken, straddling = [False] * len(ids), False
    for (begin, end), message in zip(turns, _of_assistant(said.messages), strict=True):
        inside, across = _tokens_in(text, where, (begin, end))
        straddling |= across
        if message.get("weight", 1):
            for place in inside:
                spoken[place] = True
    inside, _ = _tokens_in(text, where, turns[-1])
    if not inside:
        raise Unclear("leaves nothing of what the assistant said")
    asked = written.text(said.messages[:-1], asks=True)
    before = tokenizer(asked, add_special_tokens=False)["input_ids"]
    return Rendered(ids, spoken, inside[0], inside[-1] + 1, straddling, before == ids[: inside[0]])


def _of_assistant(messages: Sequence[Message]) -> list[Message]:
    return [message for message in messages if message["role"] == ASSISTANT]


def _tokens_in(text: str, where: Sequence[Span], span: Span) -> tuple[list[int], bool]:
    """The places of the tokens of a span of letters, and whether one reaches across an end of it.

    White space at the ends of a token counts for nothing: many tokens have the space before a word, and some special tokens take all
    that stands behind them (Phi-3's).
    """
    inside, across = [], False
    for place, (begin, end) in enumerate(where):
        if end <= span[0]:
            continue
        if begin >= span[1]:
            break
        first, last = begin, end
        if seen := text[begin:end].strip():
            first += text[begin:end].index(seen)
            last = first + len(seen)
        if first >= span[0] and last <= span[1]:
            inside.append(place)
        else:
            across = True
    return inside, across


@dataclass(frozen=True)
class _Writer:
    tokenizer: Any
    template: str | None
    tools: tuple[Any, ...]

    @functools.cached_property
    def jinja(self) -> str:
        """The template, by which it is always the same day: what a run learns must not depend on when it is done."""
        if (template := self.template) is None:
            template = str(self.tokenizer.get_chat_template(tools=list(self.tools) or None))
        return A_DAY + template if "strftime_now" in template else template

    def text(self, messages: Sequence[Message], asks: bool = False) -> str:
        """What the template makes of some messages; of one who `asks`, up to where the assistant begins to write."""
        try:
            text: str = self.tokenizer.apply_chat_template(
                list(messages), tools=list(self.tools) or None, chat_template=self.jinja, tokenize=False, add_generation_prompt=asks
            )  # fmt: skip
        except Exception as error:  # whatever Jinja, or what the template is written to raise
            raise Unclear(f"can't write it: {' '.join(str(error).split())[:200]}") from error
        return text

    def spans(self, messages: Sequence[Message], text: str) -> list[Span]:
        """Of each of the assistant's messages its letters in the text, the token that ends them among them."""
        if re.search(r"\{%-?\s*generation", self.jinja):
            return self._marked(messages, text)
        return self._by_other_words(messages, text)

    def _marked(self, messages: Sequence[Message], text: str) -> list[Span]:
        """As the template marks them, without what it writes itself for who asks: some marks take in the end of a header."""
        encoded = self.tokenizer.apply_chat_template(
            list(messages), tools=list(self.tools) or None, chat_template=self.jinja, tokenize=True, return_dict=True,
            return_assistant_tokens_mask=True, tokenizer_kwargs={"return_offsets_mapping": True},
        )  # fmt: skip
        told = zip(encoded["assistant_masks"], encoded["offset_mapping"], strict=True)
        runs = [[where for _, where in its] for marked, its in groupby(told, lambda one: one[0]) if marked]
        theirs = _of_assistant(messages)
        if len(runs) != len(theirs):
            raise Unclear(
                f"marks {len(runs)} passages as the assistant's ({{% generation %}}) in a conversation with {len(theirs)} of its messages"
            )
        numbers = [number for number, message in enumerate(messages) if message["role"] == ASSISTANT]
        found = []
        for run, number in zip(runs, numbers, strict=True):
            begin, end = run[0][0], _without_space_behind(text, run[-1][1])
            if not text[:end].endswith(tuple(self._ends())):
                raise Unclear(
                    f"marks what the assistant said without the token that ends it, up to {text[begin:end][-20:]!r}: a model would not "
                    "learn to stop"
                )
            asked = len(os.path.commonprefix([self.text(messages[:number], asks=True), text]))
            found.append((max(begin, asked), end))
        return found

    def _by_other_words(self, messages: Sequence[Message], text: str) -> list[Span]:
        """By writing the conversation with other words in the place of the assistant's."""
        longest = max(map(len, re.findall("x+", text)), default=0)
        others: dict[int, str] = {
            number: f"reply{number}{'x' * max(12, longest + 1)}"  # which nobody said
            for number, message in enumerate(messages)
            if message["role"] == ASSISTANT and not message.get("tool_calls")
        }
        rest = self.text(
            [
                {**message, "content": others[number]} if number in others else message
                for number, message in enumerate(messages)
            ]
        )
        self._check_reasoning(messages, text)
        templates: list[str] = []  # what stands before each reply, and behind the last
        for word in others.values():
            if rest.count(word) != 1:
                raise Unclear("writes what the assistant said several times, or not at all")
            before, rest = rest.split(word)
            templates.append(before)
        templates.append(rest)
        found: dict[int, Span] = {}
        again = templates[0]  # the text, put together from what the template wrote and the assistant's words
        for number, behind in zip(others, templates[1:], strict=True):
            said = _as_written(str(messages[number]["content"]), text[len(again) :], behind)
            found[number] = (len(again), len(again + said) + self._end_in(behind))
            again += said + behind
        if again != text:
            raise Unclear(f"changes what the assistant said, from {_difference(again, text)!r} on")
        for number, message in enumerate(messages):
            if message["role"] == ASSISTANT and number not in found:
                found[number] = self._called(messages, number, text)
        return [found[number] for number in sorted(found)]

    def _check_reasoning(self, messages: Sequence[Message], text: str) -> None:
        """Whether a template without marks leaves out what the assistant thought: it is no part of its words.

        Raises:
            Unclear: it writes it.
        """
        if not any(message.get(REASONING) for message in _of_assistant(messages)):
            return
        silent = [{name: its for name, its in message.items() if name != REASONING} for message in messages]
        if self.text(silent) != text:
            raise Unclear(
                f"writes the assistant's {REASONING}, which would not be learned; it needs marks ({{% generation %}})"
            )

    def _ends(self) -> list[str]:
        """The tokens that may end what the assistant said, the longest first."""
        added = {str(token) for token in self.tokenizer.added_tokens_decoder.values()}
        named = {token for token in added | set(self.tokenizer.all_special_tokens) if token.strip()}
        return sorted(named, key=len, reverse=True)

    def _end_in(self, rest: str) -> int:
        """How many letters of what stands behind the assistant's words end them: a special token, or several up to the end of a text."""
        ends = self._ends()
        one = "|".join(map(re.escape, ends))
        last = re.escape(self.tokenizer.eos_token or ends[0])
        match = re.match(rf"\s*(?:(?:{one})*?{last}|(?:{one}))", rest)
        if match is None:
            raise Unclear(
                f"ends what the assistant said with {rest[:20]!r}, which is no special token of the tokenizer: a model would not learn to stop"
            )
        return match.end()

    def _called(self, messages: Sequence[Message], number: int, text: str) -> Span:
        """Of a message that calls functions: what the template adds for it behind where the assistant begins to write."""
        before = self.text(messages[:number], asks=True)
        after = self.text(messages[: number + 1])
        if not after.startswith(before) or not text.startswith(after.rstrip()):
            raise Unclear(
                "writes a call of a function otherwise in the middle of a conversation than at its end"
            )
        return len(before), _without_space_behind(text, len(after))


def _as_written(said: str, text: str, behind: str) -> str:
    """What was said, as a text begins with it before what the template writes behind it: templates take white space away."""
    ways = (said, said.strip(), said.rstrip(), said.lstrip())
    return next((way for way in ways if text.startswith(way + behind)), said)


def _without_space_behind(text: str, end: int) -> int:
    """The end without the white space before it, which stands between two messages and is not written."""
    return len(text[:end].rstrip())


def _difference(one: str, other: str) -> str:
    place = next((i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), 0)
    return other[place : place + 40]
