"""SAMSum (Gliwa et al. 2019): a chat to its summary, as in the LoRA paper's Table 4, by ROUGE.

From `--data-dir DIR` with `samsum/train.jsonl` and the like (columns dialogue and summary), else from the hub.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import pyarrow.compute as pc

from peftbench import Completion, Decoding, task
from peftbench.data.files import NeededColumn
from peftbench.data.published import Published
from peftbench.objectives.base import SPLITS

from ._published import datasets_of, some_sources

if TYPE_CHECKING:
    import datasets

PUBLISHED = Published("samsum", "knkarthick/samsum")
COLUMNS = {"source": NeededColumn("dialogue", ""), "target": NeededColumn("summary", "")}


@task("samsum", version="1")
@dataclass(frozen=True)
class SamSum:
    """A few sentences that say what a chat was about."""

    inputs: int = 0  # of the test split, evenly spread; 0: all 819
    beams: int = 4
    max_new_tokens: int = 64

    max_length: ClassVar[int] = 512

    def __post_init__(self) -> None:
        if self.inputs < 0:
            raise ValueError(f"inputs must be 0 (all) or more, not {self.inputs}")
        self.objective  # noqa: B018  checks the decoding

    @property
    def objective(self) -> Completion:
        return Completion(
            ("rouge_l", "rouge_1", "rouge_2"), Decoding(self.beams, self.max_new_tokens, no_repeat_ngram=3)
        )

    def fingerprint(self) -> str:
        return PUBLISHED.fingerprint(SPLITS)

    def splits(self) -> dict[str, datasets.Dataset]:
        tables = PUBLISHED.read(SPLITS, COLUMNS)
        for split, rows in tables.items():
            lines = pc.replace_substring(rows["source"], "\r\n", "\n")
            tables[split] = rows.set_column(rows.schema.get_field_index("source"), "source", lines)
        if self.inputs:
            tables["test"] = some_sources(tables["test"], self.inputs)
        return datasets_of(tables)
