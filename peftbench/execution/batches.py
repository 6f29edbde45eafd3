"""From a task's rows to batches on a device: tokenised once and cached, length-bucketed, in a seeded order.

The order depends on the seed and on the data alone, so every method of one seed sees the same batches. Tokens stay in
files that are mapped into memory: a split of millions of rows costs no more than the batches that are cut from it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow
import torch
from torch import Tensor

from ..data.cache import cache_folder, make_once
from ..data.hub_data import without_bars
from ..data.splits import joined
from ..errors import UsageError
from ..models.streams import stream_seed
from ..objectives.base import IGNORED, OF_OPTIONS, SPLITS, Objective
from ..records.runs import Run

ENCODING_VERSION = 4  # raise it when the cached files change
BUCKET_BATCHES = 50  # batches of one length-sorted window: enough to cut padding, few enough to stay shuffled
NOT_INPUTS = ("labels", "source_tokens")
READ = ("input_ids", "decoder_input_ids")  # tokens that a model is given
TEXT_COLUMNS = (
    "group",
    "part",
)  # kept as text beside the tokens, where a task has them, with its objective's
IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Ragged:
    """Rows of several lengths, end to end."""

    values: npt.NDArray[Any]
    offsets: IntArray  # (rows + 1,): where each row begins, and where the last one ends

    @property
    def lengths(self) -> IntArray:
        return np.diff(self.offsets)

    def some(self, rows: IntArray) -> Ragged:
        """Some of the rows, in that order."""
        where = np.concatenate([np.arange(self.offsets[i], self.offsets[i + 1]) for i in rows])
        return Ragged(self.values[where], np.concatenate([[0], np.cumsum(self.lengths[rows])]))

    def ends(self, most: int) -> Ragged:
        """The last numbers of each row, at most so many."""
        lengths = np.minimum(self.lengths, most)
        where = [np.arange(end - length, end) for end, length in zip(self.offsets[1:], lengths, strict=True)]
        return Ragged(self.values[np.concatenate(where)], np.concatenate([[0], np.cumsum(lengths)]))

    def padded(self, rows: IntArray, fill: int, left: bool) -> tuple[npt.NDArray[Any], npt.NDArray[np.bool_]]:
        """Some of the rows as (rows, longest of them), filled up on one side, and which places are real."""
        found = self.some(rows)
        width = int(found.lengths.max())
        places = np.arange(width)[None, :]
        real = places >= width - found.lengths[:, None] if left else places < found.lengths[:, None]
        block = np.full(real.shape, fill, np.float32 if found.values.dtype.kind == "f" else np.int64)
        block[real] = found.values
        return block, real


@dataclass(frozen=True)
class Encoded:
    """A tokenised split."""

    lists: dict[str, Ragged]  # `input_ids` and its likes
    numbers: dict[str, npt.NDArray[Any]]  # one an item, (items,)
    texts: pyarrow.Table | None = (
        None  # some of `TEXT_COLUMNS` and of its objective's `texts`, one row an item
    )
    counted: dict[str, npt.NDArray[Any]] = field(default_factory=dict)  # its objective's, (items,)
    of_options: dict[str, Ragged] = field(default_factory=dict)  # `OF_OPTIONS`, of an objective that judges

    def __len__(self) -> int:
        return len(self.lists["input_ids"].offsets) - 1

    @property
    def lengths(self) -> IntArray:
        """Tokens of each item that a model is given: of an encoder-decoder also those that its decoder reads."""
        return np.asarray(np.sum([self.lists[name].lengths for name in READ if name in self.lists], axis=0))

    def has(self, column: str) -> bool:
        """Whether its items have that text."""
        return self.texts is not None and column in self.texts.column_names

    def text(self, column: str, items: IntArray) -> npt.NDArray[np.object_]:
        """That text of some items."""
        assert self.texts is not None
        return np.asarray(self.texts[column].take(pyarrow.array(items)).to_pylist(), dtype=object)

    def groups(self, items: IntArray) -> npt.NDArray[np.object_]:
        """What each of some items belongs to: those of one group, and those that a model reads alike, tell one thing."""
        alike = self.read(items)
        return joined(self.text("group", items), alike) if self.has("group") else alike

    def read(self, items: IntArray) -> npt.NDArray[np.object_]:
        """A hash of the tokens that a model reads of each item, without those that it is to write."""
        rows = self.lists["input_ids"]
        lengths = self.numbers.get("source_tokens", rows.lengths)
        found = (
            rows.values[start : start + n]
            for start, n in zip(rows.offsets[items], lengths[items], strict=True)
        )
        return np.array([blake2b(ids.tobytes(), digest_size=8).hexdigest() for ids in found], dtype=object)

    def some(self, items: IntArray) -> Encoded:
        """Some of its items, in that order."""
        return Encoded(
            lists={name: rows.some(items) for name, rows in self.lists.items()},
            numbers={name: values[items] for name, values in self.numbers.items()},
            texts=None if self.texts is None else self.texts.take(pyarrow.array(items)),
            counted={name: values[items] for name, values in self.counted.items()},
            of_options={name: rows.some(items) for name, rows in self.of_options.items()},
        )

    def ends(self, most: int) -> Encoded:
        """The last tokens of each item, at most so many: the end holds what a head reads and what is written."""
        return replace(self, lists={name: rows.ends(most) for name, rows in self.lists.items()})


def first_of_shuffled(split: Encoded, count: int) -> Encoded:
    """So many items, in the split's order: the same for every method and seed, and fewer are always among more."""
    return split.some(shuffled_items(len(split), count))


def shuffled_items(items: int, count: int) -> IntArray:
    """Which of so many items those are, in order."""
    shuffled = np.random.default_rng(stream_seed(0, "train items")).permutation(items)
    return np.sort(shuffled[:count])


def scored_items(split: Encoded, count: int | None, whole_groups: bool = False) -> IntArray:
    """Which items are scored, in order: of each group the same share, the same for every method and seed.

    Items of one group tell much the same, so that a few of each group tell more than all of a few groups. Rows that a
    model reads alike stay together: they are one item with several answers.

    Args:
        count: None for all; fewer are always among more.
        whole_groups: of an objective that makes one item of several.
    """
    everything = np.arange(len(split))
    if count is None or count >= len(split):
        return everything
    groups = split.groups(everything)
    alike = groups if whole_groups else split.read(everything)
    _, first, unit_of, rows = np.unique(alike, return_index=True, return_inverse=True, return_counts=True)
    order = np.argsort(_places_in_groups(groups[first]), kind="stable")
    enough = int(np.searchsorted(np.cumsum(rows[order]), count)) + 1
    return everything[np.isin(unit_of, order[:enough])]


def _places_in_groups(groups: npt.NDArray[np.object_]) -> npt.NDArray[np.float64]:
    """Of each unit a place in (0, 1): those of a group lie apart by one over their number, in random order from a random start.

    So the units up to any place are that share of each group, and a unit alone in its group is among them with that chance.
    """
    random = np.random.default_rng(stream_seed(0, "scored items"))
    names, group_of, sizes = np.unique(groups, return_inverse=True, return_counts=True)
    shuffled = random.permutation(len(groups))
    by_group = shuffled[np.argsort(group_of[shuffled], kind="stable")]
    rank = np.empty(len(groups))
    rank[by_group] = np.arange(len(groups)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    return np.asarray((rank + random.random(len(names))[group_of]) / sizes[group_of])


def encode_splits(
    name: str, objective: Objective, load: Any, tokenizer: Any, max_length: int, cache_key: str, wanted: tuple[str, ...] = SPLITS
) -> dict[str, Encoded]:  # fmt: skip
    """The tokenised splits of the task `name`, or those `wanted`, from the cache or made by `load()` and `tokenizer`, then cached.

    Raises:
        UsageError: a split or a column is missing or empty, or its objective pads items or leaves some out.
    """
    of_some = "" if wanted == SPLITS else f"\0{wanted}"
    key = hashlib.sha256(f"{ENCODING_VERSION}\0{max_length}\0{cache_key}{of_some}".encode()).hexdigest()[:32]
    home = cache_folder() / "tokens" / key

    def make(folder: Path) -> None:
        splits = load()
        for split in wanted:
            if split not in splits or len(splits[split]) == 0:
                raise UsageError(f"task {name!r} has no rows in its {split} split")
        for split in wanted:
            (folder / split).mkdir()
            _write(splits[split], objective, tokenizer, max_length, folder / split)

    with without_bars():
        make_once(home, make)
    return {split: _open(home / split) for split in wanted}


def _write(rows: Any, objective: Objective, tokenizer: Any, max_length: int, folder: Path) -> None:
    """Tokenise a split, batch by batch, and write each column's numbers end to end into a file."""
    kept = [column for column in (*TEXT_COLUMNS, *objective.texts) if column in rows.column_names]
    needed = [column for column in rows.column_names if column in {*kept, *objective.inputs}]

    def encode(part: dict[str, list[Any]]) -> dict[str, list[Any]]:
        for column in needed:
            if None in part[column]:
                raise UsageError(f"column {column!r} of its {folder.name} split is None in some rows")
        told = objective.encode(tokenizer, part, max_length)
        rows_of_part, items = len(next(iter(part.values()))), len(told["input_ids"])
        if items != rows_of_part:
            raise UsageError(
                f"encode() gives {items:,} items of {rows_of_part:,} rows of its {folder.name} split; it must give one a row"
            )
        if any(0 in mask for mask in told.get("attention_mask", ())):
            raise UsageError(
                "encode() pads its items (its attention_mask has zeros), and they would be read as text; leave padding out: each batch is "
                "padded to its longest item"
            )
        return told

    scratch = folder / "rows.arrow"
    made = rows.map(
        encode,
        batched=True,
        remove_columns=[column for column in rows.column_names if column not in kept],
        cache_file_name=str(scratch),
        load_from_cache_file=False,
    )
    table: pyarrow.Table = made.data.table
    for name in (column for column in table.column_names if column not in kept):
        chunks = table[name].chunks
        if pyarrow.types.is_list(table[name].type):
            ends = np.cumsum(np.concatenate([np.diff(chunk.offsets.to_numpy()) for chunk in chunks]))
            np.concatenate([[0], ends]).astype(np.int64).tofile(folder / f"{name}.offsets")
            # Tokens as 32 bits take half the room that Python's numbers take.
            kind = "float32" if pyarrow.types.is_floating(table[name].type.value_type) else "int32"
            file, chunks = folder / f"{name}.{kind}s", [chunk.flatten() for chunk in chunks]
        elif name in objective.counted:
            file, kind = folder / f"{name}.int8", "int8"
        elif pyarrow.types.is_floating(table[name].type):
            file, kind = folder / f"{name}.float32", "float32"
        else:
            file, kind = folder / f"{name}.int64", "int64"
        with file.open("wb") as sink:
            for chunk in chunks:
                chunk.to_numpy(zero_copy_only=False).astype(kind).tofile(sink)
    if kept:
        texts = table.select(kept)
        with pyarrow.ipc.new_file(str(folder / "texts.arrow"), texts.schema) as writer:
            writer.write_table(texts)
    del made, table
    scratch.unlink()


def _open(folder: Path) -> Encoded:
    def mapped(file: Path, kind: str) -> npt.NDArray[Any]:
        return np.asarray(np.memmap(file, kind, "r")) if file.stat().st_size else np.zeros(0, kind)

    texts = folder / "texts.arrow"
    lists = {
        file.stem: Ragged(mapped(file, kind), mapped(file.with_suffix(".offsets"), "int64"))
        for kind in ("int32", "float32")
        for file in sorted(folder.glob(f"*.{kind}s"))
    }
    of_options = {name: lists.pop(name) for name in OF_OPTIONS if name in lists}
    return Encoded(
        counted={file.stem: mapped(file, "int8") for file in sorted(folder.glob("*.int8"))},
        lists=lists,
        of_options=of_options,
        numbers={
            file.stem: mapped(file, kind)
            for kind in ("int64", "float32")
            for file in sorted(folder.glob(f"*.{kind}"))
        },
        texts=pyarrow.ipc.open_file(pyarrow.memory_map(str(texts))).read_all() if texts.is_file() else None,
    )


def told(objective: Objective, splits: Mapping[str, Encoded]) -> list[str]:
    """What a reader should know of what was cut or lost on the way to tokens, in words."""
    found = []
    for name, meaning in objective.counted.items():
        hit = {
            split: (int(its.counted[name].sum()), len(its))
            for split, its in splits.items()
            if name in its.counted
        }
        if any(count for count, _ in hit.values()):
            each = ", ".join(
                f"{count:,} of {items:,} {split}" for split, (count, items) in hit.items() if count
            )
            found.append(f"{each} items {meaning}")
    return found


def training_order(lengths: IntArray, batch_size: int, steps: int, seed: int) -> Iterator[IntArray]:
    """For each of `steps` steps, which items its batch holds: `batch_size` of them, or all where there are fewer.

    Epochs are shuffled, cut into windows of `BUCKET_BATCHES` batches, sorted by length inside a window so that a batch
    needs little padding, and the batches of a window shuffled again. What does not fill a batch at the end of an epoch is of any
    length, and is filled up with items of like lengths from the next one: every item is once in each epoch's share.
    """
    generator = np.random.default_rng(stream_seed(seed, "order"))
    size = min(batch_size, len(lengths))
    left = np.zeros(0, np.int64)
    done = 0
    while True:
        epoch = generator.permutation(len(lengths))
        ready = []
        if len(left):
            others = epoch[~np.isin(epoch, left)]
            far = np.abs(lengths[others] - np.median(lengths[left]))
            like = others[np.argsort(far, kind="stable")[: size - len(left)]]
            ready, epoch = [np.concatenate([left, like])], epoch[~np.isin(epoch, like)]
            left = left[:0]
        for start in range(0, len(epoch), size * BUCKET_BATCHES):
            window = epoch[start : start + size * BUCKET_BATCHES]
            window = window[np.argsort(lengths[window], kind="stable")]
            if rest := len(window) % size:
                # The longest would else be left over every time.
                at = size * int(generator.integers(len(window) // size + 1))
                left, window = window[at : at + rest], np.delete(window, np.s_[at : at + rest])
            ready += np.split(window, len(window) // size) if len(window) else []
            for index in generator.permutation(len(ready)):
                yield ready[index]
                done += 1
                if done == steps:
                    return
            ready = []


def drawn(run: Run, lengths: IntArray) -> IntArray:
    """The items of the training split that the steps of a run see, each once; from an epoch on all of them."""
    if not run.budget.is_below_an_epoch(len(lengths)):
        return np.arange(len(lengths))
    steps = run.budget.resolve_steps(len(lengths))
    return np.unique(np.concatenate([*training_order(lengths, run.budget.batch_size, steps, run.seed)]))


def scoring_order(lengths: IntArray, batch_size: int) -> Iterator[IntArray]:
    """Every item once, longest first, so that memory peaks in the first batch and padding is least."""
    order = np.argsort(-lengths, kind="stable")
    for start in range(0, len(order), batch_size):
        yield order[start : start + batch_size]


def inputs_of(batch: dict[str, Tensor]) -> dict[str, Tensor]:
    """What a model's forward pass takes of a batch."""
    return {name: values for name, values in batch.items() if name not in NOT_INPUTS}


def padding(tokenizer: Any) -> dict[str, int]:
    """What fills up the rows of each column: a place without a label is left out of the loss."""
    token = int(tokenizer.pad_token_id)
    return {"input_ids": token, "decoder_input_ids": token, "labels": IGNORED}


def collate(
    data: Encoded, items: IntArray, pad: dict[str, int], device: torch.device, left: bool = False
) -> dict[str, Tensor]:
    """A batch, padded to its longest item, on the right unless `left`.

    Returns:
        Each list-valued column as (batch, length), `attention_mask` as (batch, length), the others as (batch,).
    """
    batch: dict[str, npt.NDArray[Any]] = {}
    for column, rows in data.lists.items():
        batch[column], real = rows.padded(items, pad.get(column, 0), left)
        if column == "input_ids":
            batch["attention_mask"] = real.astype(np.int64)
    batch |= {column: values[items] for column, values in data.numbers.items()}
    return {
        column: torch.from_numpy(values).to(device, non_blocking=True) for column, values in batch.items()
    }


def cache_key(*parts: object) -> str:
    """One text for everything that the tokens of a task depend on."""
    return json.dumps(parts, sort_keys=True, default=str)
