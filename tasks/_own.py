"""The user's own rows: which columns hold what, how they are cut into splits, and what is found wrong before training.

Everything is prepared once, in the cache: an Arrow file a split and what was learned of them on the way. Rows go from the
user's file to there in batches, so a file of millions of rows is never in memory.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pyarrow as pa

from peftbench import Classification, Completion, Decoding, Regression, UsageError
from peftbench.data.cache import cache_folder, make_once
from peftbench.data.digests import sha256_of
from peftbench.data.files import NeededColumn, endings, read
from peftbench.data.splits import SHARES, numbered, split_rows
from peftbench.folders import expanded
from peftbench.objectives.base import SPLITS
from peftbench.objectives.text_metrics import TEXT_METRICS
from peftbench.printable import printable

from ._given import MOST_LABELS, Given, groups_joined, rare, shared, spelled_alike, units_of

if TYPE_CHECKING:
    import datasets

PREPARED_VERSION = 4  # raise it when what is prepared changes
FILES = ("path", "validation", "test")  # fields that name files, whose content counts and not their place
# Of names that may be a split, and are not read as one: Test.csv, eval.jsonl, test-00000-of-00001.parquet.
OTHER_WORDS = {
    split: rf"(?:^|[^a-z])(?:{words}|eval|evaluation|held[-_]?out|hold[-_]?out)(?:[-_]?(?:set|split|data))?(?:[^a-z]|$)"
    for split, words in (
        ("validation", "valid|validation|val|dev|development"),
        ("test", "tests?|testing|tst"),
    )
}
OTHER_NAMES = {"validation": ("valid", "val", "dev")}  # what a folder's files may be called


@dataclass(frozen=True)
class OwnRows:
    """Texts with a label or a number each, from one file, a folder of split files, or files named one by one.

    What is not given is cut off the training rows: 20 % for test, 10 % for validation, equal texts and rows of one `group`
    on one side, labels in equal shares, by `split_seed`. Neither the order of the rows nor the names of labels, files and
    folders change the cut, or the order in which they are trained on.
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
        without, beside = ["beams", "max_new_tokens"], "labels or numbers, for which nothing is written"
        if self.prompt is not None:
            without = ["text", "label", "value", "text_pair"]
            beside = "prompt and completion, which are in their place"
        usual = {field.name: field.default for field in dataclasses.fields(OwnRows)}
        if given := [name for name in without if getattr(self, name) != usual[name]]:
            raise ValueError(f"{given[0]} has no effect beside {beside}; leave it out")
        if self.value is not None and self.label != usual["label"]:
            raise ValueError("label is a column of classes and value one of numbers; name one of them")

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
                if len(here) > 1 and getattr(self, split, None) is None:
                    raise UsageError(
                        f"data folder {self.path!r} has several files of its {split} split, "
                        f"{', '.join(file.name for file in here)}; leave one, or name it with :{split}=FILE"
                    )
                if here:
                    found[split] = here[0]
            if "train" not in found:
                others = ", ".join(sorted(printable(file.name) for file in path.iterdir())[:5])
                raise UsageError(
                    f"data folder {self.path!r} has no training rows; it needs a train{endings(self.kind)[0]}, and has {others or 'nothing'}"
                )
        elif path.is_file():
            found["train"] = path
        else:
            raise UsageError(f"data file {self.path!r} does not exist")
        for split in ("validation", "test"):
            if (named := getattr(self, split)) is not None:
                found[split] = expanded(named, split)
                if not found[split].is_file():
                    raise UsageError(f"data file {named!r} of the {split} split does not exist")
        if path.is_dir():
            self._refuse_unread(sorted(file.name for file in path.iterdir()), found)
        return found

    def _refuse_unread(self, names: Sequence[str], found: Iterable[str]) -> None:
        """Cut no split off training beside what looks like it.

        Raises:
            UsageError: there is a file, or a split of a data set, of such a name.
        """
        for split in (split for split in OTHER_WORDS if split not in found):
            if alike := [name for name in names if re.search(OTHER_WORDS[split], name, re.IGNORECASE)]:
                raise UsageError(
                    f"{self.path!r} has no {split} split, and {printable(alike[0])!r}, which is not read: {self._how_to_read(split, alike[0])}"
                )

    def _how_to_read(self, split: str, name: str) -> str:
        """What to do about a file that looks like a split."""
        named = printable(str(Path(self.path) / name))
        return f"write {split}{endings(self.kind)[0]}, or :{split}={named}, or take it away"

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
            split: Given(split, batches, folder / f"given-{split}.arrow", columns)
            for split, batches in self.given(columns).items()
        }
        labels = sorted(given["train"].labels)
        self._check_values(given)
        shares = {
            "train": SHARES["train"],
            **{s: SHARES[s] for s in ("validation", "test") if s not in given},
        }
        units = units_of(given["train"], self.split_seed)
        where = split_rows(units, numbered(units, given["train"].strata()), shares)
        for split in SPLITS:
            source, chosen = (given[split], None) if split in given else (given["train"], where[split])
            if split == "train":
                chosen = where["train"]
            if chosen is not None and not chosen.any():
                joined = len(np.unique(units))
                apart = f"{joined:,} different texts"
                if self.group:
                    apart = f"{joined:,} after groups of {self.group!r} that share a text are joined"
                raise UsageError(
                    f"{self.path!r} has too few rows to cut a {split} split from ({len(units):,} rows, {apart}); give one with :{split}=..."
                    if split != "train"
                    else f"{self.path!r} has too few rows to train on"
                )
            # A file of a split keeps its order, by which a user finds its rows again; what is trained on or cut off has none.
            source.write(
                folder / f"{split}.arrow", labels, None if chosen is None else source.order(labels, chosen)
            )
        self._check_cut(given["train"], where["train"], labels)
        learned: dict[str, Any] = {
            "labels": labels,
            "notices": [
                *self._origins(given, shares),
                *shared(given),
                *groups_joined(given["train"], units),
                *rare(given["train"], where["train"], labels),
                *spelled_alike(labels),
            ],
        }
        for one in given.values():
            one.file.unlink()
        if self.value is not None:
            numbers = given["train"].numbers[where["train"]]
            learned |= {"centre": float(numbers.mean()), "spread": float(numbers.std())}
        return learned

    def _origins(self, given: Iterable[str], shares: Mapping[str, float]) -> Iterator[str]:
        """Where each split comes from."""
        cut = " and ".join(split for split in SPLITS if split in shares and split != "train")
        own = " and ".join(split for split in SPLITS if split in given and split != "train")
        if cut:
            yield f"{cut} cut off the training rows (split_seed {self.split_seed})" + (
                f", {own} as given" if own else ""
            )
        else:
            yield f"{own} as given"

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

    def _check_cut(self, train: Given, chosen: Any, labels: list[str]) -> None:
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

    def _check_values(self, given: Mapping[str, Given]) -> None:
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
