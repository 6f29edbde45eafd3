"""The user's own conversations: `chat:path=conversations.jsonl`, for a decoder with a chat template."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import pyarrow as pa

from peftbench import Chat, Completion, Decoding, UsageError, task
from peftbench.data.files import BATCH_ROWS, NeededColumn
from peftbench.folders import expanded
from peftbench.objectives.chat import source_text

from ._conversations import Wrong, conversation_of, read_rows, split_at_reply
from ._own import OwnRows

if TYPE_CHECKING:
    import datasets

COLUMNS = ("source", "target")
CONVERSATIONS_VERSION = 2  # raise it when rows are read otherwise


@task("chat", version="2")
@dataclass(frozen=True)
class OwnChat:
    """Your own conversations in JSON Lines or Parquet: `messages` with roles, `conversations`, or a column for each side."""

    path: str = dataclasses.field(metadata={"file": True})
    template: str | None = dataclasses.field(default=None, metadata={"file": True})  # in place of the model's
    messages: str | None = None  # their column; None: the usual one that is there
    group: str | None = None
    validation: str | None = dataclasses.field(default=None, metadata={"file": True})
    test: str | None = dataclasses.field(default=None, metadata={"file": True})
    split_seed: int = 0
    metric: str | None = None
    beams: int = 1
    max_new_tokens: int = 128

    max_length: ClassVar[int] = 512

    def __post_init__(self) -> None:
        Decoding(self.beams, self.max_new_tokens)
        self._rows  # noqa: B018  checks the metric

    @property
    def objective(self) -> Chat:
        written = self._rows.objective
        assert isinstance(written, Completion)
        return Chat(written.metrics, written.decoding, template=self._template)

    def fingerprint(self) -> str:
        own = hashlib.sha256((self._template or "").encode()).hexdigest()
        return self._rows.fingerprint() if self.template is None else f"{self._rows.fingerprint()} {own}"

    def splits(self) -> dict[str, datasets.Dataset]:
        return self._rows.splits()

    def notices(self) -> list[str]:
        return self._rows.notices()

    @functools.cached_property
    def _template(self) -> str | None:
        if self.template is None:
            return None
        try:
            return expanded(self.template, "template").read_text(encoding="utf-8")
        except (OSError, UnicodeError) as error:
            said = error.strerror if isinstance(error, OSError) else "it is no UTF-8"
            raise UsageError(f"the chat template {self.template!r} can't be read: {said}") from error

    @functools.cached_property
    def _rows(self) -> _Conversations:
        path = expanded(self.path, "path")
        in_parquet = path.suffix.lower() == ".parquet" or (path / "train.parquet").is_file()
        kind = _InParquet if in_parquet else _InJsonLines
        return kind(
            self.path, prompt="source", completion="target", group=self.group, validation=self.validation, test=self.test,
            split_seed=self.split_seed, metric=self.metric, beams=self.beams, max_new_tokens=self.max_new_tokens, messages=self.messages,
        )  # fmt: skip


@dataclass(frozen=True)
class _Conversations(OwnRows):
    """Rows of a prompt and its completion: what was said before the last reply, and that reply."""

    messages: str | None = None

    def formats(self) -> Any:
        return [CONVERSATIONS_VERSION, super().formats()]

    def given(self, columns: Mapping[str, NeededColumn]) -> dict[str, Iterable[pa.RecordBatch]]:
        return {split: self._batches(split, file) for split, file in self.files().items()}

    @functools.cached_property
    def _ends(self) -> dict[str, int]:
        """Of each split, how many conversations go on behind the last reply."""
        return {}

    def _prepare(self, folder: Path) -> dict[str, Any]:
        learned = super()._prepare(folder)
        for split, count in self._ends.items():
            if count:
                learned["notices"].append(
                    f"{count:,} conversations of the {split} file go on behind the assistant's last words, which is left out"
                )
        return learned

    def _batches(self, split: str, file: Path) -> Iterator[pa.RecordBatch]:
        names = (*COLUMNS, "group") if self.group else COLUMNS
        self._ends[split] = 0
        made: list[tuple[str, ...]] = []
        for number, row in enumerate(read_rows(file), start=1):
            try:
                before, reply, behind = split_at_reply(conversation_of(row, self.messages))
                own = (source_text(before), reply)
                made.append((*own, self._group_of(row)) if self.group else own)
            except Wrong as wrong:
                raise UsageError(f"data file {str(file)!r}: row {number}, {wrong}") from wrong
            self._ends[split] += behind > 0
            if len(made) == BATCH_ROWS:
                yield _batch(names, made)
                made = []
        yield _batch(names, made)

    def _group_of(self, row: Mapping[str, Any]) -> str:
        assert self.group is not None
        value = row.get(self.group)
        if value is None or not str(value).strip():
            raise Wrong(self.group, "it is empty, or not there")
        return str(value).strip()


@dataclass(frozen=True)
class _InJsonLines(_Conversations):
    kind: ClassVar = "jsonl"


@dataclass(frozen=True)
class _InParquet(_Conversations):
    kind: ClassVar = "parquet"


def _batch(names: tuple[str, ...], rows: list[tuple[str, ...]]) -> pa.RecordBatch:
    columns = [pa.array([row[place] for row in rows], pa.string()) for place in range(len(names))]
    return pa.RecordBatch.from_arrays(columns, list(names))
