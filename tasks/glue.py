"""GLUE (Wang et al. 2019), the eight tasks of the LoRA paper's Table 2, with its metrics.

The official development set is the test split, read once a run; validation is cut off the training split (a tenth, at
most 2,000 rows). So nothing is chosen on what is reported, where the paper takes the best epoch on the development set.
From `--data-dir DIR` with `glue/sst2/train.jsonl.gz` and the like, else from the hub (`nyu-mll/glue`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import pyarrow as pa

from peftbench import Classification, Regression, UsageError, task
from peftbench.data.files import NeededColumn
from peftbench.data.published import Published

from ._published import carve, datasets_of

if TYPE_CHECKING:
    import datasets


@dataclass(frozen=True)
class Glue:
    """What the eight have in common."""

    config: ClassVar[str]
    columns: ClassVar[tuple[str, ...]]  # of the one or two texts
    labels: ClassVar[
        tuple[str, ...]
    ]  # in the order of the published numbers; none where a number is predicted
    metrics: ClassVar[tuple[str, ...]] = ("accuracy", "macro_f1")
    tests: ClassVar[tuple[str, ...]] = ("validation",)  # published splits that make up the test split
    group: ClassVar[str | None] = None  # a text column: items that share it are not independent
    max_length: ClassVar[int] = 128
    remark: ClassVar[str | None] = None

    @property
    def objective(self) -> Classification | Regression:
        return Classification(self.labels, self.metrics)

    @property
    def published(self) -> Published:
        return Published(f"glue/{self.config}", "nyu-mll/glue", self.config)

    def fingerprint(self) -> str:
        return self.published.fingerprint(("train", *self.tests))

    def notices(self) -> list[str]:
        return [] if self.remark is None else [self.remark]

    def splits(self) -> dict[str, datasets.Dataset]:
        names = ("text", "text_pair")[: len(self.columns)]
        wanted = {name: NeededColumn(column, "") for name, column in zip(names, self.columns, strict=True)}
        tables = self.published.read(
            ("train", *self.tests), {**wanted, "label": NeededColumn("label", "", float)}
        )
        if self.labels:
            tables = {
                split: _whole(table, len(self.labels), f"glue-{self.config}, {split}")
                for split, table in tables.items()
            }
        if self.group is not None:
            shared = names[self.columns.index(self.group)]
            tables = {split: t.append_column("group", t[shared]) for split, t in tables.items()}
        if len(self.tests) > 1:
            parts = {split: split.partition("_")[2] for split in self.tests}
            tables |= {
                s: tables[s].append_column("part", pa.array([part] * len(tables[s])))
                for s, part in parts.items()
            }
        strata = tables["train"]["label"].to_numpy() if self.labels else None
        train, validation = carve(tables["train"], "text" if self.group is None else "group", strata)
        test = pa.concat_tables([tables[split] for split in self.tests])
        return datasets_of({"train": train, "validation": validation, "test": test})


def _whole(table: pa.Table, labels: int, where: str) -> pa.Table:
    """Labels as whole numbers.

    Raises:
        UsageError: a label is not one of the task's, as in GLUE's own test files, which have none.
    """
    given = table["label"].to_numpy()
    if strange := sorted(set(given[~np.isin(given, np.arange(labels))].tolist())):
        raise UsageError(f"{where}: labels are 0 to {labels - 1}, and some rows have {strange[0]:g}")
    numbers = pa.array(given.astype(np.int64))
    return table.set_column(table.schema.get_field_index("label"), "label", numbers)


@task("glue-sst2", version="1")
@dataclass(frozen=True)
class Sst2(Glue):
    """Is a phrase of a film review negative or positive? (Socher et al. 2013)"""

    config: ClassVar = "sst2"
    columns: ClassVar = ("sentence",)
    labels: ClassVar = ("negative", "positive")


@task("glue-cola", version="1")
@dataclass(frozen=True)
class Cola(Glue):
    """Is a sentence acceptable English? By Matthews' correlation (Warstadt et al. 2019)."""

    config: ClassVar = "cola"
    columns: ClassVar = ("sentence",)
    labels: ClassVar = ("unacceptable", "acceptable")
    metrics: ClassVar = ("matthews", "accuracy")


@task("glue-mrpc", version="1")
@dataclass(frozen=True)
class Mrpc(Glue):
    """Do two sentences of news say the same? (Dolan and Brockett 2005)"""

    config: ClassVar = "mrpc"
    columns: ClassVar = ("sentence1", "sentence2")
    labels: ClassVar = ("not_equivalent", "equivalent")
    metrics: ClassVar = ("accuracy", "f1")


@task("glue-stsb", version="1")
@dataclass(frozen=True)
class Stsb(Glue):
    """How alike are two sentences, from 0 to 5? By Pearson's correlation (Cer et al. 2017)."""

    config: ClassVar = "stsb"
    columns: ClassVar = ("sentence1", "sentence2")
    labels: ClassVar = ()
    metrics: ClassVar = ("pearson", "spearman")

    @property
    def objective(self) -> Regression:
        # Mean and spread of the training split; every method alike, and correlations do not depend on them.
        return Regression(2.70, 1.50, self.metrics)


@task("glue-qnli", version="1")
@dataclass(frozen=True)
class Qnli(Glue):
    """Does a sentence hold the answer to a question? (Rajpurkar et al. 2016, as recast by GLUE)"""

    config: ClassVar = "qnli"
    columns: ClassVar = ("question", "sentence")
    labels: ClassVar = ("entailment", "not_entailment")
    group: ClassVar = "sentence"


@task("glue-qqp", version="1")
@dataclass(frozen=True)
class Qqp(Glue):
    """Do two questions ask the same? (Quora question pairs)"""

    config: ClassVar = "qqp"
    columns: ClassVar = ("question1", "question2")
    labels: ClassVar = ("not_duplicate", "duplicate")
    metrics: ClassVar = ("accuracy", "f1")
    remark: ClassVar = "the starter minilm-l6 was trained on Quora question pairs before, so its results here are no transfer"


@task("glue-rte", version="1")
@dataclass(frozen=True)
class Rte(Glue):
    """Does one text follow from another? (Dagan et al. 2006 and later rounds)"""

    config: ClassVar = "rte"
    columns: ClassVar = ("sentence1", "sentence2")
    labels: ClassVar = ("entailment", "not_entailment")
    group: ClassVar = "sentence1"


@task("glue-mnli", version="1")
@dataclass(frozen=True)
class Mnli(Glue):
    """Does a hypothesis follow from a premise? Matched and mismatched genres together and apart (Williams et al. 2018)."""

    config: ClassVar = "mnli"
    columns: ClassVar = ("premise", "hypothesis")
    labels: ClassVar = ("entailment", "neutral", "contradiction")
    tests: ClassVar = ("validation_matched", "validation_mismatched")
    group: ClassVar = "premise"
    remark: ClassVar = (
        "the starter minilm-l6 was trained on MultiNLI before, so its results here are no transfer"
    )
