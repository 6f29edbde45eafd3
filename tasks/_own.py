"""The user's own rows: which columns hold what, how they are cut into splits, and what is found wrong before training.

Everything is prepared once, in the cache: an Arrow file a split and what was learned of them on the way. Rows go from the
user's file to there in batches, so a file of millions of rows is never in memory.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from peftbench import Classification, Completion, Decoding, Regression, UsageError
from peftbench.data.cache import cache_folder, make_once
from peftbench.data.digests import sha256_of
from peftbench.data.files import NeededColumn, endings, read
from peftbench.data.splits import SHARES, hashes, split_rows
from peftbench.folders import expanded
from peftbench.objectives.base import SPLITS
from peftbench.objectives.text_metrics import TEXT_METRICS

if TYPE_CHECKING:
    import datasets

PREPARED_VERSION = 2  # raise it when what is prepared changes
MOST_LABELS = 1000  # more are no classes but numbers or texts
STRATA = 10  # of numbers: tenths by size
FILES = ("path", "validation", "test")  # fields that name files, whose content counts and not their place
OTHER_NAMES = {"validation": ("valid", "val", "dev")}  # what a folder's files may be called


@dataclass(frozen=True)
class OwnRows:
    """Texts with a label or a number each, from one file, a folder of split files, or files named one by one.

    What is not given is cut off the training rows: 20 % for test, 10 % for validation, equal texts (or rows of one `group`)
    on one side, labels in equal shares, by `split_seed`.
    """

    path: str = dataclasses.field(metadata={"file": True})
    text: str = "text"
    label: str = "label"
    value: str | None = None  # a column of numbers: regression, in place of `label`
    text_pair: str | None = None
    prompt: str | None = None  # with `completion`: a text to be written for another one, in place of a label
    completion: str | None = None
    group: str | None = None
    validation: str | None = dataclasses.field(default=None, metadata={"file": True})  # one of its own
    test: str | None = dataclasses.field(default=None, metadata={"file": True})
    split_seed: int = 0
    metric: str | None = None  # the primary one, in place of the kind's first
    beams: int = 1
    max_new_tokens: int = 64

    def __post_init__(self) -> None:
        self._metrics  # noqa: B018  checks the name
        if (self.prompt is None) != (self.completion is None):
            raise ValueError("prompt and completion go together: name a column for each")
        Decoding(self.beams, self.max_new_tokens)

    kind: ClassVar[str] = ""  # of the files

    @property
    def objective(self) -> Classification | Regression | Completion:
        learned = self._prepared[1]
        if self.prompt is not None:
            return Completion(self._metrics, Decoding(self.beams, self.max_new_tokens))
        if self.value is not None:
            return Regression(learned["centre"], learned["spread"], self._metrics)
        if self.metric == "f1" and len(learned["labels"]) != 2:
            raise UsageError(
                f"{self.path!r}: f1 is of the second of two labels, and column {self.label!r} has {len(learned['labels'])}; "
                "take metric=macro_f1"
            )
        return Classification(tuple(learned["labels"]), self._metrics)

    @property
    def _metrics(self) -> tuple[str, ...]:
        """The metrics of its kind, the primary one first."""
        usual: tuple[str, ...]
        known: tuple[str, ...]
        if self.prompt is not None:
            usual, known = ("rouge_l", "bleu"), tuple(TEXT_METRICS)
        elif self.value is not None:
            usual = known = ("pearson", "spearman", "rmse")
        else:
            usual, known = ("accuracy", "macro_f1"), ("accuracy", "macro_f1", "f1", "matthews")
        if self.metric is None:
            return usual
        if self.metric not in known:
            raise ValueError(f"metric must be one of {', '.join(known)}, not {self.metric!r}")
        return (self.metric, *(name for name in usual if name != self.metric))

    def fingerprint(self) -> str:
        """Of the content of every split that is given."""
        digest = hashlib.sha256()
        for split, file in self.files().items():
            digest.update(split.encode() + sha256_of(file))
        return digest.hexdigest()

    def splits(self) -> dict[str, datasets.Dataset]:
        import datasets

        folder = self._prepared[0]
        return {split: datasets.Dataset.from_file(str(folder / f"{split}.arrow")) for split in SPLITS}

    def notices(self) -> list[str]:
        """What a reader should know of these rows."""
        return list(self._prepared[1]["notices"])

    def given(self, columns: Mapping[str, NeededColumn]) -> dict[str, Iterable[pa.RecordBatch]]:
        """The rows of every split that is given; the others are cut off `train`."""
        return {split: read(file, self.kind, columns) for split, file in self.files().items()}

    def formats(self) -> Any:
        """What of the way in which the rows are kept tells how they are read."""
        return {split: file.suffixes for split, file in self.files().items()}

    def files(self) -> dict[str, Path]:
        """The file of each split that has one; the others are cut off `train`."""
        path = expanded(self.path, "path")
        found: dict[str, Path] = {}
        if path.is_dir():
            for split in SPLITS:
                names = [
                    f"{name}{end}"
                    for name in (split, *OTHER_NAMES.get(split, ()))
                    for end in endings(self.kind)
                ]
                here = [path / name for name in names if (path / name).is_file()]
                if here:
                    found[split] = here[0]
            if "train" not in found:
                kinds = " or ".join(endings(self.kind)[:1])
                raise UsageError(f"data folder {self.path!r} has no training rows; it needs a train{kinds}")
        elif path.is_file():
            found["train"] = path
        else:
            raise UsageError(f"data file {self.path!r} does not exist")
        for split in ("validation", "test"):
            if (named := getattr(self, split)) is not None:
                found[split] = expanded(named, split)
                if not found[split].is_file():
                    raise UsageError(f"data file {named!r} of the {split} split does not exist")
        return found

    @functools.cached_property
    def _prepared(self) -> tuple[Path, dict[str, Any]]:
        """The folder with an Arrow file a split, and what was learned of the rows; made where it is not there."""
        fields = {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.name not in FILES}
        key = json.dumps([PREPARED_VERSION, self.kind, self.fingerprint(), self.formats(), fields])
        home = cache_folder() / "rows" / hashlib.sha256(key.encode()).hexdigest()[:32]

        def make(folder: Path) -> None:
            (folder / "learned.json").write_text(json.dumps(self._prepare(folder)), encoding="utf-8")

        make_once(home, make)
        return home, json.loads((home / "learned.json").read_text(encoding="utf-8"))

    def _prepare(self, folder: Path) -> dict[str, Any]:
        columns = self._columns()
        given = {
            split: _Given(split, batches, folder / f"given-{split}.arrow", columns)
            for split, batches in self.given(columns).items()
        }
        labels = sorted(given["train"].labels)
        self._check_values(given)
        shares = {
            "train": SHARES["train"],
            **{s: SHARES[s] for s in ("validation", "test") if s not in given},
        }
        strata, units = given["train"].strata(labels), hashes_of(given["train"], self.split_seed)
        where = split_rows(units, strata, shares)
        for split in SPLITS:
            source, chosen = (given[split], None) if split in given else (given["train"], where[split])
            if split == "train":
                chosen = where["train"]
            if chosen is not None and not chosen.any():
                apart = f"{len(np.unique(units)):,} " + ("groups" if self.group else "different texts")
                raise UsageError(
                    f"{self.path!r} has too few rows to cut a {split} split from ({len(units):,} rows, {apart}); give one with :{split}=..."
                    if split != "train"
                    else f"{self.path!r} has too few rows to train on"
                )
            source.write(folder / f"{split}.arrow", chosen, labels)
        self._check_cut(given["train"], where["train"], labels)
        learned: dict[str, Any] = {
            "labels": labels,
            "notices": [*_shared(given), *_rare(given["train"], where["train"], labels)],
        }
        for one in given.values():
            one.file.unlink()
        if self.value is not None:
            numbers = given["train"].numbers[where["train"]]
            learned |= {"centre": float(numbers.mean()), "spread": float(numbers.std())}
        return learned

    def _columns(self) -> dict[str, NeededColumn]:
        group = {} if self.group is None else {"group": NeededColumn(self.group, "group", is_name=True)}
        if self.prompt is not None and self.completion is not None:
            texts = {
                "source": NeededColumn(self.prompt, "prompt"),
                "target": NeededColumn(self.completion, "completion"),
            }
            return {**texts, **group}
        columns = {"text": NeededColumn(self.text, "text")}
        if self.text_pair is not None:
            columns["text_pair"] = NeededColumn(self.text_pair, "text_pair")
        columns["label"] = (
            NeededColumn(self.label, "label", is_name=True)
            if self.value is None
            else NeededColumn(self.value, "value", float)
        )
        return {**columns, **group}

    def _check_cut(self, train: _Given, chosen: Any, labels: list[str]) -> None:
        """Whether there is still something to learn in what was left to train on."""
        if self.value is not None and not 0 < train.numbers[chosen].std() < np.inf:
            raise UsageError(
                f"{self.path!r}: column {self.value!r} has one value only in the training rows that the cut left; try "
                "another :split_seed, or give the splits"
            )
        if train.labelled and self.value is None and len(np.unique(train.numbers[chosen])) < 2:
            raise UsageError(
                f"{self.path!r}: column {self.label!r} has one label only in the training rows that the cut left, of "
                f"{len(labels)}; try another :split_seed, or give the splits"
            )

    def _check_values(self, given: Mapping[str, _Given]) -> None:
        labels, rows = given["train"].labels, given["train"].rows
        if empty := [split for split, one in given.items() if one.rows == 0]:
            raise UsageError(f"{self.path!r} has no rows in the file of its {empty[0]} split")
        if self.prompt is not None:
            return
        if self.value is not None:
            if not np.ptp(given["train"].numbers) > 0:
                one = given["train"].numbers[0]
                raise UsageError(f"{self.path!r}: column {self.value!r} has one value only, {one:g}")
            return
        where = f"{self.path!r}: column {self.label!r}"
        if len(labels) < 2:
            raise UsageError(f"{where} has one label only, {next(iter(labels))!r}; two are needed")
        if len(labels) > min(MOST_LABELS, max(20, rows // 2)):
            raise UsageError(
                f"{where} has {len(labels):,} different values in {rows:,} rows, which are no classes; if they are "
                f"numbers, write :value={self.label}"
            )
        for split, one in given.items():
            if strange := sorted(set(one.labels) - set(labels)):
                raise UsageError(
                    f"{where} has labels in the {split} split that training lacks: {strange[:5]}, first in row "
                    f"{min(one.labels[label] for label in strange)}"
                )


class _Given:
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

    def strata(self, labels: list[str]) -> Any:
        """What the shares of the splits are kept within: the labels, or tenths of the numbers."""
        if not self.labelled:
            return np.zeros(self.rows, np.int64)
        if not self.numbered:
            return self.numbers.astype(np.int64)
        edges = np.quantile(self.numbers, np.linspace(0, 1, STRATA + 1)[1:-1])
        return np.searchsorted(edges, self.numbers).astype(np.int64)

    def write(self, file: Path, chosen: Any, labels: list[str]) -> None:
        """Some of the rows, or all, with labels by their number in `labels`."""
        done, writer = 0, None
        with pa.OSFile(str(file), "wb") as sink:
            for batch in self.batches():
                if self.labelled and not self.numbered:
                    at = batch.schema.get_field_index("label")
                    numbers = pc.index_in(batch.column(at), pa.array(labels)).cast(pa.int64())
                    batch = batch.set_column(at, "label", numbers)
                if chosen is not None:
                    kept = chosen[done : done + batch.num_rows]
                    done += batch.num_rows
                    batch = batch.filter(pa.array(kept))
                writer = writer or pa.ipc.new_stream(sink, batch.schema)
                writer.write_batch(batch)
            if writer is not None:
                writer.close()


def hashes_of(given: _Given, seed: int, texts_alone: bool = False) -> Any:
    """What each row belongs to: its group, or its own text (and the second one)."""
    grouped = "group" in given.names and not texts_alone

    def names() -> Iterator[str]:
        for batch in given.batches():
            columns = [
                batch.column(batch.schema.get_field_index(name)).to_pylist()
                for name in (["group"] if grouped else [n for n in given.names if n != "group"])
            ]
            yield from (" \0 ".join(row) for row in zip(*columns, strict=True))

    return hashes(names(), seed)


def _rare(train: _Given, chosen: Any, labels: list[str]) -> Iterator[str]:
    """Labels that the cut left out of training."""
    if train.labelled and not train.numbered:
        here = set(np.unique(train.numbers[chosen]).tolist())
        own = list(train.labels)
        if lacking := sorted(own[code] for code in range(len(own)) if code not in here):
            yield f"the cut left no training row of the labels {', '.join(lacking[:5])}"


def _shared(given: Mapping[str, _Given]) -> Iterator[str]:
    """Texts that stand more than once, or in two of the given splits."""
    texts = {split: hashes_of(one, 0, texts_alone=True) for split, one in given.items()}
    for split, own in texts.items():
        if again := len(own) - len(np.unique(own)):
            yield f"{again:,} of {len(own):,} rows of the {split} file repeat a text of it"
    for split in [s for s in texts if s != "train"]:
        if both := int(np.isin(texts[split], texts["train"]).sum()):
            yield f"{both:,} of {len(texts[split]):,} {split} rows have a text that is also in the training file"
