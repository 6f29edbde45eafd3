"""The user's own table: which columns hold what, and how it is cut into splits."""

from __future__ import annotations

import functools
import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from peftbench import Classification, UsageError

if TYPE_CHECKING:
    import datasets
    import pandas as pd

SPLITS = ("train", "validation", "test")


@dataclass(frozen=True)
class OwnTable:
    """A file of labelled texts, cut 70/10/20 by a hash of each row's group (or text), or a folder of split files.

    A folder holds `train`, `validation` and `test` files with the task's ending. Labels are taken as they stand, sorted.
    """

    path: str
    text: str = "text"
    label: str = "label"
    text_pair: str | None = None
    group: str | None = None

    endings: ClassVar[tuple[str, ...]] = ()  # of the split files in a folder

    @staticmethod
    def read(file: Path) -> pd.DataFrame:
        raise NotImplementedError("each kind of file reads itself")

    @property
    def objective(self) -> Classification:
        labels = self.frames["train"]["label"].unique()
        if len(labels) < 2:
            raise UsageError(
                f"{self.path!r}: column {self.label!r} has one label only, {labels[0]!r}; two are needed"
            )
        return Classification(labels=tuple(sorted(labels)))

    def fingerprint(self) -> str:
        digest = hashlib.sha256()
        for file in self.files().values():
            with file.open("rb") as source:
                digest.update(hashlib.file_digest(source, "sha256").digest())
        return digest.hexdigest()

    def files(self) -> dict[str, Path]:
        """The file of each split, or the one file of all under the name `all`."""
        path = Path(self.path).expanduser()
        if path.is_file():
            return {"all": path}
        if not path.is_dir():
            raise UsageError(f"data file {self.path!r} does not exist")
        found = {}
        for split in SPLITS:
            files = [path / f"{split}{ending}" for ending in self.endings]
            here = [file for file in files if file.is_file()]
            if not here:
                names = " or ".join(file.name for file in files)
                raise UsageError(f"data folder {self.path!r} has no {split} split; it needs {names}")
            found[split] = here[0]
        return found

    @functools.cached_property
    def frames(self) -> dict[str, pd.DataFrame]:
        """Each split with the columns `text`, `label` (as text), and where named `text_pair` and `group`."""
        files = self.files()
        if "all" not in files:
            return {split: self._checked(file) for split, file in files.items()}
        frame = self._checked(files["all"])
        split = frame["group" if self.group else "text"].map(_split_of)
        return {name: frame[split == name] for name in SPLITS}

    def splits(self) -> dict[str, datasets.Dataset]:
        import datasets

        labels = self.objective.labels
        made = {}
        for name, frame in self.frames.items():
            strange = sorted(set(frame["label"]) - set(labels))
            if strange:
                raise UsageError(
                    f"{self.path!r}: the {name} split has labels that training lacks: {strange[:5]}"
                )
            numbered = frame.assign(label=frame["label"].map(labels.index))
            made[name] = datasets.Dataset.from_pandas(numbered, preserve_index=False)
        return made

    def _checked(self, file: Path) -> pd.DataFrame:
        try:
            frame = type(self).read(file)
        except (ValueError, UnicodeDecodeError) as error:
            raise UsageError(
                f"data file {str(file)!r} does not read: {' '.join(str(error).split())}"
            ) from error
        wanted = {"text": self.text, "label": self.label, "text_pair": self.text_pair, "group": self.group}
        for role, column in wanted.items():
            if column is not None and column not in frame.columns:
                raise UsageError(
                    f"data file {str(file)!r} has no column {column!r}; it has {', '.join(map(str, frame.columns))}; "
                    f"name the right one with :{role}=COLUMN"
                )
        named = {role: column for role, column in wanted.items() if column is not None}
        frame = frame[list(named.values())].set_axis(list(named), axis=1)
        for role, column in named.items():
            empty = frame[role].isna() | frame[role].astype(str).str.strip().eq("")
            if empty.any():
                row = int(empty.to_numpy().argmax()) + 1
                raise UsageError(
                    f"data file {str(file)!r}: {int(empty.sum())} empty values in column {column!r}, first in data "
                    f"row {row}; fill or remove them"
                )
        return frame.astype(str)


def _split_of(value: str) -> str:
    """70 % train, 10 % validation, 20 % test; equal values share a split."""
    share = int(hashlib.sha256(value.encode()).hexdigest()[:8], 16) / 0xFFFFFFFF
    return "train" if share < 0.7 else "validation" if share < 0.8 else "test"
