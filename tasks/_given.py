"""The rows of one file of the user's, as they were given: what is seen of them on the way, and in which order they are written."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from peftbench.data.files import BATCH_ROWS, NeededColumn
from peftbench.data.splits import hashes, joined

MOST_LABELS = 1000  # more are no classes but numbers or texts
STRATA = 10  # of numbers: tenths by size


class Given:
    """The rows of one file, copied to an Arrow file with the task's names, and what was seen on the way."""

    def __init__(
        self, split: str, batches: Iterable[pa.RecordBatch], file: Path, columns: Mapping[str, NeededColumn]
    ) -> None:
        self.split, self.file, self.rows = split, file, 0
        self.labels: dict[str, int] = {}  # each label and the first row that has it, from 1
        self.labelled = "label" in columns
        self.numbered = self.labelled and columns["label"].kind is float
        self.names = [name for name in ("text", "text_pair", "source", "group") if name in columns]
        codes: list[Any] = []
        writer = None
        with pa.OSFile(str(file), "wb") as sink:
            for batch in batches:
                writer = writer or pa.ipc.new_stream(sink, batch.schema)
                writer.write_batch(batch)
                if self.labelled:
                    codes.append(self._codes(batch.column(batch.schema.get_field_index("label"))))
                self.rows += batch.num_rows
            if writer is not None:
                writer.close()
        self.numbers = np.concatenate(codes) if codes else np.zeros(0)

    def _codes(self, column: pa.Array) -> Any:
        """The numbers, or for labels the order in which they first appeared."""
        if self.numbered:
            return column.to_numpy(zero_copy_only=False)
        packed = column.dictionary_encode()
        at = packed.indices.to_numpy(zero_copy_only=False)
        for code, label in enumerate(packed.dictionary.to_pylist()):
            if label not in self.labels:
                self.labels[label] = self.rows + int(np.flatnonzero(at == code)[0]) + 1
        if len(self.labels) > 10 * MOST_LABELS:
            return at.astype(np.int64)  # refused soon: they are no classes
        own = {label: code for code, label in enumerate(self.labels)}
        return np.array([own[label] for label in packed.dictionary.to_pylist()], np.int64)[at]

    def batches(self) -> Iterator[pa.RecordBatch]:
        with pa.memory_map(str(self.file)) as source:
            yield from pa.ipc.open_stream(source)

    def strata(self) -> Any:
        """What the shares of the splits are kept within: the labels, or tenths of the numbers."""
        if not self.labelled:
            return np.zeros(self.rows, np.int64)
        if not self.numbered:
            return self.numbers.astype(np.int64)
        edges = np.quantile(self.numbers, np.linspace(0, 1, STRATA + 1)[1:-1])
        return np.searchsorted(edges, self.numbers).astype(np.int64)

    def order(self, labels: list[str], chosen: Any) -> Any:
        """The numbers of the chosen rows, in an order that their texts and labels alone make."""
        texts = hashes(self.texts(*self.names, "target"), 0)
        if self.labelled and not self.numbered:
            places = np.array([labels.index(label) for label in self.labels], np.int64)[self.strata()]
        else:
            places = self.numbers if self.labelled else np.zeros(self.rows)
        rows = np.flatnonzero(chosen)
        return rows[np.lexsort((places[rows], texts[rows]))]

    def texts(self, *names: str) -> Iterator[str]:
        """Some columns of each row as one text, without what belongs to a group alone."""
        for batch in self.batches():
            here = [name for name in names if name != "group" and name in batch.schema.names]
            columns = [batch.column(batch.schema.get_field_index(name)).to_pylist() for name in here]
            yield from (" \0 ".join(row) for row in zip(*columns, strict=True))

    def groups(self) -> Iterator[str]:
        for batch in self.batches():
            yield from batch.column(batch.schema.get_field_index("group")).to_pylist()

    def write(self, file: Path, labels: list[str], rows: Any) -> None:
        """Some of the rows in that order, or all in theirs (None), with labels by their number in `labels`."""
        with pa.memory_map(str(self.file)) as source, pa.OSFile(str(file), "wb") as sink:
            table = pa.ipc.open_stream(source).read_all()
            with pa.ipc.new_stream(sink, self._told(table.slice(0, 0), labels).schema) as writer:
                for start in range(0, self.rows if rows is None else len(rows), BATCH_ROWS):
                    part = (
                        table.slice(start, BATCH_ROWS)
                        if rows is None
                        else table.take(pa.array(rows[start : start + BATCH_ROWS]))
                    )
                    writer.write_table(self._told(part, labels).combine_chunks())

    def _told(self, table: pa.Table, labels: list[str]) -> pa.Table:
        """With labels by their number."""
        if not self.labelled or self.numbered:
            return table
        at = table.schema.get_field_index("label")
        numbers = pc.index_in(table.column(at), pa.array(labels, pa.string())).cast(pa.int64())
        return table.set_column(at, "label", numbers)


def units_of(given: Given, seed: int) -> Any:
    """What each row belongs to, by a hash: all that equal texts or groups join."""
    # White space alone makes no other text.
    texts = hashes((" ".join(text.split()) for text in given.texts(*given.names)), seed)
    return joined(hashes(given.groups(), seed), texts) if "group" in given.names else texts


def groups_joined(train: Given, units: Any) -> Iterator[str]:
    """Groups that equal texts make one."""
    if "group" in train.names and (groups := len(set(train.groups()))) > (apart := len(np.unique(units))):
        yield f"the {groups:,} groups share texts, so that {apart:,} are left to cut between"


def rare(train: Given, chosen: Any, labels: list[str]) -> Iterator[str]:
    """Labels that the cut left out of training."""
    if train.labelled and not train.numbered:
        here = set(np.unique(train.numbers[chosen]).tolist())
        own = list(train.labels)
        if lacking := sorted(own[code] for code in range(len(own)) if code not in here):
            yield f"the cut left no training row of the labels {', '.join(lacking[:5])}"


def spelled_alike(labels: list[str]) -> Iterator[str]:
    """Labels that may be one in two spellings: `1` and `1.0`, `Yes` and `yes`, a letter with its accent as one sign or as two."""
    by_meaning: dict[str, list[str]] = {}
    for label in labels:
        by_meaning.setdefault(_meaning(label), []).append(label)
    for same in by_meaning.values():
        if len(same) > 1:
            yield f"the labels {' and '.join(map(repr, same[:3]))} count as {len(same)}; if they mean one thing, spell them alike"


def _meaning(label: str) -> str:
    try:
        return repr(float(label))
    except ValueError:
        return " ".join(unicodedata.normalize("NFKC", label).casefold().split())


def shared(given: Mapping[str, Given]) -> Iterator[str]:
    """Texts that stand more than once, and texts and groups in two of the given splits."""
    texts = {split: hashes(one.texts(*one.names), 0) for split, one in given.items()}
    for split, own in texts.items():
        if again := len(own) - len(np.unique(own)):
            yield f"{again:,} of {len(own):,} rows of the {split} file repeat a text of it"
    for split, other in (("validation", "train"), ("test", "train"), ("test", "validation")):
        if split in texts and other in texts and (both := int(np.isin(texts[split], texts[other]).sum())):
            file = "training" if other == "train" else other
            yield f"{both:,} of {len(texts[split]):,} {split} rows have a text that is also in the {file} file"
    groups = {split: set(one.groups()) for split, one in given.items() if "group" in one.names}
    for split in (split for split in groups if split != "train"):
        if alike := len(groups[split] & groups["train"]):
            yield f"{alike:,} of {len(groups[split]):,} groups of the {split} file are also in the training file"
