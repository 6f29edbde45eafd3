"""E2E (Novikova et al. 2017): restaurants' data to a sentence, as in the LoRA paper's Tables 3 and 18.

A meaning representation is linearised as the paper's code does (`name : Blue Spice | Type : coffee shop | area : city
centre`); all its sentences are references of one item. BLEU, NIST, ROUGE-L and CIDEr follow the challenge's own script.
From `--data-dir DIR` with `e2e_nlg/train.jsonl.gz` and the like, else from the hub (`GEM/e2e_nlg`'s predecessor `e2e_nlg`).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import pyarrow as pa

from peftbench import Completion, Decoding, UsageError, task
from peftbench.data.files import NeededColumn
from peftbench.data.published import Published

from ._e2e_metrics import METRICS
from ._published import carve, datasets_of, some_sources

if TYPE_CHECKING:
    import datasets

NAMES = {"eatType": "Type", "priceRange": "price", "customer rating": "customer rating"}
PUBLISHED = Published("e2e_nlg", "tuetschek/e2e_nlg")
COLUMNS = {
    "source": NeededColumn("meaning_representation", "source"),
    "target": NeededColumn("human_reference", "target"),
}


@task("e2e-nlg", version="1")
@dataclass(frozen=True)
class E2E:
    """A sentence about a restaurant, from its attributes. One text for each input, scored against all its references."""

    train: str = "train"  # the published split that trains; validation is cut off it where it is "validation"
    inputs: int = 0  # of the test split, evenly spread; 0: all 630
    beams: int = 10
    max_new_tokens: int = 64
    length_penalty: float = 0.9
    no_repeat_ngram: int = 4

    max_length: ClassVar[int] = 128

    def __post_init__(self) -> None:
        if self.train not in ("train", "validation"):
            raise ValueError(f"train must be train or validation, not {self.train!r}")
        if self.inputs < 0:
            raise ValueError(f"inputs must be 0 (all) or more, not {self.inputs}")
        self.objective  # noqa: B018  checks the decoding

    @property
    def objective(self) -> Completion:
        decoding = Decoding(self.beams, self.max_new_tokens, self.length_penalty, self.no_repeat_ngram)
        return Completion(METRICS, decoding)

    @property
    def published(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys((self.train, "validation", "test")))

    def fingerprint(self) -> str:
        return PUBLISHED.fingerprint(self.published)

    def splits(self) -> dict[str, datasets.Dataset]:
        tables = {split: _linear(t) for split, t in PUBLISHED.read(self.published, COLUMNS).items()}
        if self.train == "validation":
            tables["train"], tables["validation"] = carve(tables["validation"], "source", None)
        if self.inputs:
            tables["test"] = some_sources(tables["test"], self.inputs)
        return datasets_of({split: tables[split] for split in ("train", "validation", "test")})


def linear(meaning: str) -> str:
    """`name[Blue Spice], eatType[coffee shop]` as `name : Blue Spice | Type : coffee shop`.

    Raises:
        UsageError: it is no meaning representation.
    """
    found = re.findall(r"\s*([^\[\],]+)\[([^\]]*)\]", meaning)
    if not found:
        raise UsageError(
            f"e2e-nlg: {meaning!r} is no meaning representation, as in name[Blue Spice], area[riverside]"
        )
    return " | ".join(f"{NAMES.get(name, name)} : {value}" for name, value in found)


def _linear(table: pa.Table) -> pa.Table:
    sources = pa.array([linear(meaning) for meaning in table["source"].to_pylist()])
    return table.set_column(table.schema.get_field_index("source"), "source", sources)
