"""A data set of the Hugging Face hub, or a folder in its layout: `hub:path=stanfordnlp/imdb`, `hub:path=./saved:text=review`.

A folder is one that `save_to_disk` wrote, or one of files that `datasets.load_dataset` reads. Labels that the data set itself
has names for appear by name. Splits that are not there are cut off the training split, as with a file.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import pyarrow as pa

from peftbench import UsageError, task
from peftbench.hub import dataset
from peftbench.rows import BATCH_ROWS, Column, checked

from ._own import OTHER_NAMES, OwnRows


@task("hub", version="1")
@dataclass(frozen=True)
class Hub(OwnRows):
    """A data set of the hub, or a folder in its layout; `validation` and `test` name splits."""

    config: str | None = None
    train: str = "train"

    kind: ClassVar = "hub"

    def fingerprint(self) -> str:
        digest = hashlib.sha256()
        for split, rows in self._splits.items():
            digest.update(split.encode() + b"\0")
            for batch in rows.data.table.to_batches(BATCH_ROWS):
                sink = pa.BufferOutputStream()
                with pa.ipc.new_stream(sink, batch.schema.remove_metadata()) as writer:
                    writer.write_batch(batch.replace_schema_metadata(None))
                digest.update(sink.getvalue())
        return digest.hexdigest()

    def formats(self) -> Any:
        return None

    def given(self, columns: Mapping[str, Column]) -> dict[str, Iterable[pa.RecordBatch]]:
        return {
            split: checked(_named(rows), f"data set {self.path!r}, {split}", columns)
            for split, rows in self._splits.items()
        }

    @functools.cached_property
    def _splits(self) -> dict[str, Any]:
        found = dataset(self.path, self.config)
        if self.train not in found:
            raise UsageError(
                f"data set {self.path!r} has no split {self.train!r}; it has {', '.join(found)}: name one with :train=SPLIT"
            )
        splits = {"train": found[self.train]}
        for split in ("validation", "test"):
            named = getattr(self, split)
            if named is not None and named not in found:
                raise UsageError(f"data set {self.path!r} has no split {named!r}; it has {', '.join(found)}")
            names = (split, *OTHER_NAMES.get(split, ())) if named is None else (named,)
            here = [name for name in names if name in found and name != self.train]
            if here:
                splits[split] = found[here[0]]
        if empty := [split for split, rows in splits.items() if not len(rows)]:
            raise UsageError(f"data set {self.path!r} has no rows in its {empty[0]} split")
        return splits


def _named(rows: Any) -> Iterator[pa.RecordBatch]:
    """Its rows, with the names of labels in place of their numbers; a number without a name (-1) is none."""
    names = {column: feature.names for column, feature in rows.features.items() if hasattr(feature, "names")}
    table = rows.with_format("arrow")
    for start in range(0, len(rows), BATCH_ROWS):
        part: pa.Table = table[start : start + BATCH_ROWS]
        for column, known in names.items():
            numbers = part[column].to_pylist()
            texts = [known[n] if n is not None and 0 <= n < len(known) else None for n in numbers]
            part = part.set_column(part.schema.get_field_index(column), column, pa.array(texts, pa.string()))
        yield from part.combine_chunks().to_batches()
