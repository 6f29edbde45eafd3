"""A conversation: what the assistant is to say, learned from all of its messages and scored on the last one.

Columns as in `Completion`: `source` is what was said before the last reply, as `Conversation.to_text` writes it, and `target` is that
reply. The loss is on the assistant's messages alone, each with the token that ends it.
"""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from typing import Any

from ..errors import NotSupported, UsageError
from .base import IGNORED, check_length
from .chat_template import ASSISTANT, SYSTEM, USER, Conversation, Message, Rendered, Unclear, render
from .completion import Completion

PROBE = (
    {"role": USER, "content": "What is the capital of France?"},
    {"role": ASSISTANT, "content": "Paris.\n\nIt lies on the Seine."},
    {"role": USER, "content": "And of Italy?"},
    {"role": ASSISTANT, "content": "Rome"},
)
OTHER = "name a file with another template by template=FILE"


def source_text(before: Conversation) -> str:
    """What was said before a reply, as the column `source` has it."""
    # Names stay in their order: templates write calls and functions as they are given.
    return json.dumps(dataclasses.asdict(before), ensure_ascii=False)


@dataclass(frozen=True)
class Chat(Completion):
    """The next reply in a conversation, written by a decoder with a chat template."""

    template: str | None = None  # Jinja; None: the tokenizer's own

    def head_for(self, made_for: str) -> str:
        if made_for != "causal":
            raise NotSupported("is no decoder; a conversation is learned by a decoder with a chat template")
        return made_for

    def check_tokenizer(self, tokenizer: Any) -> None:
        """Whether a conversation can be written with it, and the assistant's words told from the rest.

        Raises:
            NotSupported: they can't; the reason follows the model's name.
        """
        if not (tokenizer.chat_template if self.template is None else self.template.strip()):
            raise NotSupported(
                "has no chat template; name a file with one by template=FILE, or take the model's instruct version"
                if self.template is None
                else "is given a chat template that is empty"
            )
        if not tokenizer.is_fast:
            raise NotSupported(
                "has a slow tokenizer, which does not tell which letters a token stands for; take a fast one"
            )
        try:
            rendered = render(tokenizer, self.template, Conversation(PROBE))
        except Unclear as error:
            raise NotSupported(f"has a chat template that {error}; {OTHER}") from error
        learned = [token for token, spoken in zip(rendered.ids, rendered.spoken, strict=True) if spoken]
        said = tokenizer.decode(learned, clean_up_tokenization_spaces=False)
        theirs = [str(message["content"]) for message in PROBE if message["role"] == ASSISTANT]
        others = [str(message["content"]) for message in PROBE if message["role"] != ASSISTANT]
        if any(text not in said for text in theirs) or any(text in said for text in others):
            raise NotSupported(
                f"has a chat template by which {said[:80]!r} would be learned, and the assistant said {' '.join(theirs)!r}; {OTHER}"
            )

    def ends(self, tokenizer: Any) -> list[int]:
        """The token that the template writes behind what the assistant said: many tokenizers call another one their end."""
        rendered = render(tokenizer, self.template, Conversation(PROBE))
        named = {*tokenizer.all_special_ids, *tokenizer.added_tokens_decoder}
        first = None  # of those behind the words: some templates write others before them, as <think>
        for token in reversed(rendered.ids[rendered.reply : rendered.end]):
            if token in named:
                first = token
            elif tokenizer.decode([token]).strip():
                break
        return [] if first is None else [first]

    @property
    def refuses_rows(self) -> bool:
        return True

    @property
    def counted(self) -> dict[str, str]:
        usual = super().counted
        return {
            "cut": "have a conversation that is too long and loses its first turns",
            "beheaded": "have a last turn that is too long and loses its beginning, and all before it",
            "unended": usual["unended"],
            "unwritten": "have a special token of the tokenizer in what was said, which is read as such",
            "stopped": usual["stopped"],
            "unread": usual["unread"],
            "unasked": "have a last reply behind other tokens than the template's own prompt for it (add_generation_prompt), such as an empty "
            "passage of thinking",
            "straddling": "have a reply that begins or ends inside a token of what stands around it, which is not learned",
        }

    def encode(self, tokenizer: Any, rows: dict[str, list[Any]], max_length: int) -> dict[str, list[Any]]:
        check_length(max_length, 4, "a conversation needs a token each and their ends")
        columns: dict[str, list[Any]] = {
            name: [] for name in ("input_ids", "labels", "source_tokens", *self.counted)
        }
        special = [token for token in tokenizer.all_special_tokens if token]
        targets = tokenizer(rows["target"], add_special_tokens=False)["input_ids"]
        for source, target, tokens in zip(rows["source"], rows["target"], targets, strict=True):
            before = json.loads(source)
            whole = Conversation(
                (*before["messages"], {"role": ASSISTANT, "content": target}), tuple(before["tools"])
            )
            found, turns_lost = self._fitted(tokenizer, whole, self._source_room(max_length))
            lost = max(0, found.reply - self._source_room(max_length))
            # Nothing behind it is asked for.
            ids, spoken = (
                found.ids[lost : found.end][:max_length],
                found.spoken[lost : found.end][:max_length],
            )
            columns["input_ids"].append(ids)
            columns["labels"].append([i if its else IGNORED for i, its in zip(ids, spoken, strict=True)])
            columns["source_tokens"].append(found.reply - lost)
            columns["cut"].append(int(turns_lost))
            columns["beheaded"].append(int(lost > 0))
            columns["unended"].append(int(found.end - lost > max_length))
            said = [str(message.get("content")) for message in whole.messages]
            columns["unwritten"].append(int(any(token in text for token in special for text in said)))
            columns["stopped"].append(int(len(tokens) > self.decoding.max_new_tokens))
            columns["unread"].append(int(not all(metric.reads(target) for metric in self.reported)))
            columns["unasked"].append(int(not found.as_asked))
            columns["straddling"].append(int(found.straddling))
        return columns

    def said_of_use(self, tokenizer: Any) -> list[str]:
        whose = "the tokenizer's" if self.template is None else "this"
        how = ", ".join(f"{name} {value:g}" for name, value in vars(self.decoding).items())
        named = (f"`{tokenizer.convert_ids_to_tokens(end)}` (token {end})" for end in self.ends(tokenizer))
        ends = ", ".join(named)
        said = [
            f"A prompt is written by {whose} chat template with `add_generation_prompt=True`. What it writes ends with {ends}.",
            f"The scored texts were written without sampling, with {how}.",
        ]
        return said if self.template is None else [*said, f"The template: `{json.dumps(self.template)}`"]

    def _fitted(self, tokenizer: Any, whole: Conversation, room: int) -> tuple[Rendered, bool]:
        """A conversation whose last reply has at most `room` tokens before it, if whole turns can be left out for that, and whether some were."""

        def without(turns: int) -> Rendered:
            try:
                return render(tokenizer, self.template, _without_turns(whole, turns))
            except Unclear as error:
                raise UsageError(
                    f"the conversation that begins with {_beginning(whole)!r}: the chat template {error}; fix or remove it, or {OTHER}"
                ) from error

        found = without(0)
        most = sum(message["role"] == USER for message in whole.messages) - 1
        if found.reply <= room or most < 1:
            return found, False
        too_few, enough = 0, most  # by halves: some conversations have a thousand turns
        found = without(enough)
        while enough - too_few > 1:
            middle = (too_few + enough) // 2
            shorter = without(middle)
            if shorter.reply <= room:
                found, enough = shorter, middle
            else:
                too_few = middle
        return found, True


def _beginning(said: Conversation) -> str:
    return next((str(m["content"])[:40] for m in said.messages if m["role"] == USER), "")


def _without_turns(said: Conversation, turns: int) -> Conversation:
    """The same without its first turns, which begin with a message of the user, but with the system's message before them."""
    if not turns:
        return said
    users = [number for number, message in enumerate(said.messages) if message["role"] == USER]
    head: list[Message] = [message for message in said.messages[: users[0]] if message["role"] == SYSTEM]
    return dataclasses.replace(said, messages=(*head, *said.messages[users[turns] :]))
