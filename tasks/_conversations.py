"""Conversations as files have them: `messages` with roles, ShareGPT's `conversations`, or a column for each side."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow.parquet

from peftbench import UsageError
from peftbench.data.files import BATCH_ROWS, json_objects
from peftbench.objectives.chat_template import (
    ASSISTANT,
    REASONING,
    ROLES,
    SYSTEM,
    TOOL,
    USER,
    Conversation,
    Message,
)
from peftbench.printable import printable

# What else files call the four.
NAMES = {
    **{role: role for role in ROLES},
    "developer": SYSTEM,
    "human": USER,
    "gpt": ASSISTANT,
    "model": ASSISTANT,
    "function": TOOL,
    "observation": TOOL,
    "function_response": TOOL,
}
CALL = "function_call"  # ShareGPT's role of an assistant's message that is a call
PASSED_ON = ("name", "tool_call_id", REASONING)  # of a message, to the template
MESSAGES, SHAREGPT, SIDES = "messages", "conversations", (SYSTEM, USER, ASSISTANT)


class Wrong(Exception):
    """What is wrong with a row, in which column."""

    def __init__(self, column: str, said: str) -> None:
        super().__init__(f"column {column!r}: {said}")


def read_rows(file: Path) -> Iterator[dict[str, Any]]:
    """The rows of a file of JSON Lines, packed or not, or of Parquet.

    Raises:
        UsageError: it can't be read.
    """
    if file.suffix.lower() != ".parquet":
        yield from json_objects(file)
        return
    try:
        with pyarrow.parquet.ParquetFile(str(file)) as source:
            for batch in source.iter_batches(BATCH_ROWS):
                for row in batch.to_pylist():
                    yield {name: _without_gaps(value) for name, value in row.items()}
    except (pyarrow.ArrowException, OSError) as error:
        raise UsageError(
            f"data file {str(file)!r} can't be read: {' '.join(str(error).split())[:200]}"
        ) from error


def _without_gaps(value: Any) -> Any:
    """Without what a row of Parquet has for the fields that other rows alone have: all objects of a column have the same."""
    if isinstance(value, Mapping):
        return {name: _without_gaps(its) for name, its in value.items() if its is not None}
    return [_without_gaps(one) for one in value] if isinstance(value, list) else value


def conversation_of(row: Mapping[str, Any], column: str | None) -> Conversation:
    """What a row says, whole.

    Args:
        column: of the messages; None: the usual one that is there.

    Raises:
        Wrong: it is no conversation.
    """
    tools = _parsed(row.get("tools") or None)
    if tools is not None and not isinstance(tools, list):
        raise Wrong("tools", "it is no list of functions")
    return Conversation(_messages(row, column), tuple(tools or ()))


def split_at_reply(whole: Conversation) -> tuple[Conversation, str, int]:
    """What stands before the assistant's last words that are to be learned, these words, and how many messages follow them.

    Raises:
        Wrong: there are none.
    """
    messages = whole.messages
    said = [
        number
        for number, one in enumerate(messages)
        if one["role"] == ASSISTANT and not one.get("tool_calls") and one.get("weight", 1)
    ]
    if not said:
        only = any(one["role"] == ASSISTANT for one in messages)
        raise Wrong(
            MESSAGES,
            "the assistant's messages are calls of functions, or of weight 0; a reply in words is needed, which is scored"
            if only
            else "no message is the assistant's",
        )
    if messages[said[-1]].get(REASONING):
        raise Wrong(
            MESSAGES,
            f"the last reply has {REASONING} beside its words, which would be neither learned nor scored; write it into the words as the "
            "model does (<think>...</think>), or leave it out",
        )
    before = Conversation(messages[: said[-1]], whole.tools)
    return before, str(messages[said[-1]]["content"]), len(messages) - said[-1] - 1


def _messages(row: Mapping[str, Any], column: str | None) -> tuple[Message, ...]:
    named = column or next((name for name in (MESSAGES, SHAREGPT) if row.get(name) is not None), None)
    if named is None and row.get(ASSISTANT) is not None:
        given = [(role, {"role": role, "content": row[role]}) for role in SIDES if row.get(role) is not None]
        return tuple(_message(message, side, "") for side, message in given)
    if named is None or named not in row:
        has = ", ".join(map(printable, row)) or "nothing"
        raise Wrong(
            column or MESSAGES,
            f"it is not there; a conversation is in {MESSAGES}, {SHAREGPT}, or {', '.join(SIDES)}, and the row has {has}; name its "
            "column with :messages=COLUMN",
        )
    told = _parsed(row[named])
    if not isinstance(told, list) or not told:
        raise Wrong(named, "it is no list of messages, or an empty one")
    return tuple(_message(message, named, f"message {number}: ") for number, message in enumerate(told, 1))


def _message(given: Any, column: str, where: str) -> Message:
    """One message in the words that chat templates know."""
    if not isinstance(given, Mapping):
        raise Wrong(column, f"{where}it is no object with role and content")
    role = given.get("role", given.get("from"))
    content = given.get("content", given.get("value"))
    if role == CALL:
        return {"role": ASSISTANT, "content": "", "tool_calls": _calls([_parsed(content)], column, where)}
    if not isinstance(role, str) or role not in NAMES:
        raise Wrong(column, f"{where}its role is {role!r}, none of {', '.join((*NAMES, CALL))}")
    made: Message = {"role": NAMES[role], "content": _text(content, column, where)}
    if given.get("tool_calls"):
        made["tool_calls"] = _calls(given["tool_calls"], column, where)
    elif made["role"] in (USER, ASSISTANT) and not made["content"].strip():
        raise Wrong(column, f"{where}the {made['role']}'s text is empty")
    if given.get("weight") is not None:
        if given["weight"] not in (0, 1):
            raise Wrong(column, f"{where}its weight is {given['weight']!r}; it is 1 (learned) or 0")
        made["weight"] = int(given["weight"])
    return made | {name: given[name] for name in PASSED_ON if given.get(name) is not None}


def _text(content: Any, column: str, where: str) -> str:
    """A text, or the texts of its parts; a call has none."""
    if content is None:
        return ""
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        raise Wrong(column, f"{where}its content is no text")
    for part in content:
        if not isinstance(part, Mapping) or not isinstance(part.get("text"), str):
            kind = part.get("type") if isinstance(part, Mapping) else part
            raise Wrong(column, f"{where}a part of its content is {kind!r}, and texts alone are read")
    return "".join(part["text"] for part in content)


def _calls(calls: Any, column: str, where: str) -> list[Any]:
    """Calls with their arguments as objects, as templates take them; services have them as text."""
    made = []
    for call in calls if isinstance(calls, list) else [calls]:
        function = call.get("function", call) if isinstance(call, Mapping) else None
        arguments = _parsed(function.get("arguments", {})) if isinstance(function, Mapping) else None
        if not isinstance(function, Mapping) or "name" not in function or not isinstance(arguments, Mapping):
            raise Wrong(column, f"{where}its call of a function is no object with name and arguments")
        named = {"id": call["id"]} if call.get("id") is not None else {}  # some templates write it
        made.append(
            {
                **named,
                "type": "function",
                "function": {"name": function["name"], "arguments": dict(arguments)},
            }
        )
    return made


def _parsed(value: Any) -> Any:
    """What a text of JSON holds; other values as they are."""
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except ValueError:
        return value
