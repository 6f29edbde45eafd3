"""A data set of the Hugging Face hub, or a folder in its layout: `hub:path=stanfordnlp/imdb`, `hub:path=./saved:text=review`.

`revision` is a branch, a tag or a commit. Without one it is the commit that is here, or the newest where none is.

A folder is one that `save_to_disk` wrote, or one of files that `datasets.load_dataset` reads. Labels that the data set itself
has names for appear by name. Splits that are not there are cut off the training split, as with a file.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import pyarrow as pa

from peftbench import UsageError, task
from peftbench.data.files import BATCH_ROWS, NeededColumn, checked
from peftbench.data.hub import Repository
from peftbench.data.hub_data import HubData, folder_splits
from peftbench.folders import expanded
from peftbench.printable import printable

from ._own import OTHER_NAMES, OwnRows


@task("hub", version="2")
@dataclass(frozen=True)
class Hub(OwnRows):
    """A data set of the hub, or a folder in its layout; `validation` and `test` name splits."""

    validation: str | None = None
    test: str | None = None
    config: str | None = None
    train: str = "train"
    revision: str | None = None

    kind: ClassVar = "hub"

    def fingerprint(self) -> str:
        if self._hub is None:
            return self._of_rows()
        return self._hub.remembered(f"rows {self.train} {self.validation} {self.test}", self._of_rows)

    def _of_rows(self) -> str:
        digest = hashlib.sha256()
        for split, rows in self._splits.items():
            # The names of labels are a part of them; how the rows are cut into files is not.
            digest.update(f"{split}\0{sorted((c, str(f)) for c, f in rows.features.items())}\0".encode())
            for batch in _batches(rows):
                sink = pa.BufferOutputStream()
                with pa.ipc.new_stream(sink, batch.schema.remove_metadata()) as writer:
                    writer.write_batch(batch.replace_schema_metadata(None))
                digest.update(sink.getvalue())
        return digest.hexdigest()

    def formats(self) -> Any:
        return None

    def given(self, columns: Mapping[str, NeededColumn]) -> dict[str, Iterable[pa.RecordBatch]]:
        for split, rows in self._splits.items():
            for column in columns.values():
                kind = str(getattr(rows.features.get(column.name), "dtype", ""))
                if column.kind is str and column.option != "group" and kind.startswith("timestamp"):
                    raise UsageError(
                        f"data set {self.path!r}, {split}: column {column.name!r} is of type {kind}, and no text. The datasets "
                        "library takes texts of JSON Lines for times where all look like it, and writes them otherwise; read such a "
                        "file with jsonl:path=FILE, as it is"
                    )
        return {
            split: checked(_named(rows), f"data set {self.path!r}, {split}", columns)
            for split, rows in self._splits.items()
        }

    def _how_to_read(self, split: str, name: str) -> str:
        return f"write :{split}={printable(name)}"

    @functools.cached_property
    def _hub(self) -> HubData | None:
        """Where it comes from; None where that is a folder."""
        folder = expanded(self.path, "path")
        if folder.is_dir():
            if self.revision is not None:
                raise UsageError(f"data folder {self.path!r} has no revisions; leave :revision out")
            return None
        if folder.is_absolute() or self.path.startswith(("./", "../", "~")):
            raise UsageError(f"data folder {self.path!r} does not exist")
        if "/" not in self.path:
            raise UsageError(
                f"hub:path={self.path}: a data set of the hub is OWNER/NAME, as in stanfordnlp/imdb, and no folder is called so"
            )
        repository = Repository.from_text(self.path, "dataset")
        if repository.revision is not None and self.revision is not None:
            raise UsageError(f"data set {self.path!r} and :revision={self.revision}: give one of them")
        return HubData(replace(repository, revision=repository.revision or self.revision), self.config)

    @functools.cached_property
    def _splits(self) -> dict[str, Any]:
        found = folder_splits(self.path, self.config) if self._hub is None else self._hub.splits()
        if self.train not in found:
            raise UsageError(
                f"data set {self.path!r} has no split {self.train!r}; it has {', '.join(found)}: name one with :train=SPLIT"
            )
        splits, taken = {"train": found[self.train]}, {self.train: "train"}
        for split in ("validation", "test"):
            named = getattr(self, split)
            if named is not None and named not in found:
                raise UsageError(f"data set {self.path!r} has no split {named!r}; it has {', '.join(found)}")
            if named is not None and named in taken:
                raise UsageError(
                    f"data set {self.path!r}: {taken[named]} and {split} are both its split {named!r}; name another, or leave one "
                    "out and it is cut off training"
                )
            names = (split, *OTHER_NAMES.get(split, ())) if named is None else (named,)
            later = {self.test} if split == "validation" and named is None else set()
            here = [name for name in names if name in found and name not in taken and name not in later]
            if here:
                splits[split] = found[here[0]]
                taken[here[0]] = split
        self._refuse_unread([name for name in found if name not in taken], splits)
        if empty := [split for split, rows in splits.items() if not len(rows)]:
            raise UsageError(f"data set {self.path!r} has no rows in its {empty[0]} split")
        return splits


def _batches(rows: Any) -> Iterator[pa.RecordBatch]:
    """Its rows in batches of one size, however they are stored."""
    table = rows.with_format("arrow")
    for start in range(0, len(rows), BATCH_ROWS):
        part: pa.Table = table[start : start + BATCH_ROWS]
        yield from part.combine_chunks().to_batches()


def _named(rows: Any) -> Iterator[pa.RecordBatch]:
    """Its rows, with the names of labels in place of their numbers; a number without a name (-1) is none."""
    names = {column: feature.names for column, feature in rows.features.items() if hasattr(feature, "names")}
    for part in _batches(rows):
        for column, known in names.items():
            at = part.schema.get_field_index(column)
            numbers = part.column(at).to_pylist()
            texts = [known[n] if n is not None and 0 <= n < len(known) else None for n in numbers]
            part = part.set_column(at, column, pa.array(texts, pa.string()))
        yield part
