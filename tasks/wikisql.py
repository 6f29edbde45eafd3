"""WikiSQL (Zhong et al. 2017): a question on a table to a query, as in the LoRA paper's Table 4, by logical-form accuracy.

The paper reports the development set: it is the test split here, and validation is cut off the training split, tables apart.
From `--data-dir DIR` with `wikisql/train.jsonl` and `train.tables.jsonl`, `dev.jsonl` (or `validation.jsonl`) and its tables, as
published, packed or not; rows that hold their table, as the hub has them, need no file of tables.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import pyarrow as pa

from peftbench import Completion, Decoding, TextMetric, UsageError, task
from peftbench.data.published import Published
from peftbench.objectives.text_metrics import mean, scores

from ._published import carve, datasets_of, some_sources

if TYPE_CHECKING:
    import datasets

PUBLISHED = Published("wikisql", layout=".jsonl and its .tables.jsonl")
READ = ("train", "validation")
AGGREGATES = ("", "MAX", "MIN", "COUNT", "SUM", "AVG")
OPERATORS = ("=", ">", "<", "OP")


def _asks_the_same(hypothesis: str, references: list[str]) -> bool:
    """Whether a query on one table asks what a reference asks: case, space and the conditions' order are nothing.

    WikiSQL's own script compares the numbers of columns (Zhong et al. 2017), this one their names.
    """
    return _form(hypothesis) in [_form(one) for one in references]


def _form(text: str) -> tuple[str, frozenset[str]]:
    # A column's name may hold the word "where", so the table's end is looked for.
    said, _, where = " ".join(text.lower().split()).partition(" from table where ")
    return said.removesuffix(" from table"), frozenset(where.split(" and "))


LOGICAL_FORM = TextMetric("logical_form", unit="%", statistics=partial(scores, _asks_the_same), value=mean)


@task("wikisql", version="1")
@dataclass(frozen=True)
class WikiSql:
    """The SQL query that answers a question on one table, from the question and the table's columns."""

    inputs: int = 0  # of the test split, evenly spread; 0: all 8,421
    beams: int = 1
    max_new_tokens: int = 64

    max_length: ClassVar[int] = 384  # as in the paper

    def __post_init__(self) -> None:
        if self.inputs < 0:
            raise ValueError(f"inputs must be 0 (all) or more, not {self.inputs}")
        self.objective  # noqa: B018  checks the decoding

    @property
    def objective(self) -> Completion:
        return Completion((LOGICAL_FORM, "exact_match"), Decoding(self.beams, self.max_new_tokens))

    def fingerprint(self) -> str:
        PUBLISHED.lines(READ)
        return PUBLISHED.fingerprint((*READ, *(f"{split}.tables" for split in READ if self._tables(split))))

    def splits(self) -> dict[str, datasets.Dataset]:
        tables = {split: pa.Table.from_pylist(list(self._rows(split))) for split in READ}
        train, validation = carve(tables["train"], "group", None)
        test = some_sources(tables["validation"], self.inputs) if self.inputs else tables["validation"]
        return datasets_of({"train": train, "validation": validation, "test": test})

    def _tables(self, split: str) -> Path | None:
        return PUBLISHED.beside(f"{split}.tables")

    def _rows(self, split: str) -> Iterator[dict[str, str]]:
        source, file = PUBLISHED.lines(READ)[split], self._tables(split)
        headers = {} if file is None else {t["id"]: t["header"] for t in PUBLISHED.objects(file)}
        for number, item in enumerate(PUBLISHED.objects(source), start=1):
            try:
                name = item["table"]["id"] if "table" in item else item["table_id"]
                header = item["table"]["header"] if "table" in item else headers[name]
                yield {
                    "source": f"{item['question'].strip()}\nColumns: {', '.join(header)}",
                    "target": query(item["sql"], header),
                    "group": name,
                }
            except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
                raise UsageError(
                    f"data file {str(source)!r}, row {number}: not laid out as published, or its table is not in "
                    f"{split}.tables.jsonl ({type(error).__name__}: {error}; {json.dumps(item)[:80]})"
                ) from error


def query(sql: Mapping[str, Any], header: list[str]) -> str:
    """A logical form as a query: `SELECT COUNT Player FROM table WHERE No. = 23 AND Team = Toronto`."""
    conditions = sql["conds"]
    if isinstance(conditions, Mapping):  # as the hub has them
        names = ("column_index", "operator_index", "condition")
        conditions = list(zip(*(conditions[name] for name in names), strict=True))
    aggregate = AGGREGATES[sql["agg"]]
    said = " ".join(filter(None, ["SELECT", aggregate, header[sql["sel"]], "FROM table"]))
    where = [f"{header[column]} {OPERATORS[operator]} {value}" for column, operator, value in conditions]
    return said + (f" WHERE {' AND '.join(where)}" if where else "")
