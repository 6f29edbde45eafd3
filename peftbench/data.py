"""From a task's rows to batches on a device: tokenised once and cached, length-bucketed, in a seeded order.

The order depends on the seed and on the data alone, so every method of one seed sees the same batches.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from .assets import cache_folder
from .errors import UsageError
from .objectives import SPLITS, Objective
from .streams import stream_seed

ENCODING_VERSION = 1  # raise it when the cached columns change
BUCKET_BATCHES = 50  # batches of one length-sorted window: enough to cut padding, few enough to stay shuffled

IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Encoded:
    """A tokenised split. List-valued columns are stored flat, cut by `offsets`."""

    flat: dict[str, npt.NDArray[Any]]  # `input_ids` and its likes: all items end to end
    offsets: IntArray  # (items + 1,)
    plain: dict[str, npt.NDArray[Any]]  # one number an item: `labels`
    groups: npt.NDArray[Any]  # (items,) of text: which items belong together

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def lengths(self) -> IntArray:
        """Tokens of each item."""
        return np.diff(self.offsets)


def encode(
    name: str, objective: Objective, load: Any, tokenizer: Any, max_length: int, cache_key: str
) -> dict[str, Encoded]:
    """The tokenised splits of the task `name`, from the cache or made by `load()` and `tokenizer`, then cached.

    Raises:
        UsageError: a split or a column is missing or empty.
    """
    import datasets

    datasets.disable_progress_bars()
    key = hashlib.sha256(f"{ENCODING_VERSION}\0{max_length}\0{cache_key}".encode()).hexdigest()[:32]
    folder = cache_folder() / "tokens" / key
    files = {split: folder / f"{split}.arrow" for split in SPLITS}
    if not all(file.is_file() for file in files.values()):
        folder.mkdir(parents=True, exist_ok=True)
        splits = load()
        for split, file in files.items():
            if split not in splits or len(splits[split]) == 0:
                raise UsageError(f"task {name!r} has no rows in its {split} split")
            rows = splits[split]
            kept = [column for column in ("group",) if column in rows.column_names]
            drop = [column for column in rows.column_names if column not in kept]
            scratch = file.with_suffix(f".{os.getpid()}.arrow")
            rows.map(
                lambda part: objective.encode(tokenizer, part, max_length),
                batched=True,
                remove_columns=drop,
                cache_file_name=str(scratch),
                load_from_cache_file=False,
            )
            scratch.replace(file)
    return {split: _open(file) for split, file in files.items()}


def _open(file: Path) -> Encoded:
    import datasets

    table = datasets.Dataset.from_file(str(file)).data.table
    flat: dict[str, npt.NDArray[Any]] = {}
    plain: dict[str, npt.NDArray[Any]] = {}
    offsets = np.zeros(1, np.int64)
    groups = np.arange(table.num_rows).astype(str)
    for column in table.column_names:
        array = table[column].combine_chunks()
        if column == "group":
            groups = np.asarray(array.to_pylist(), dtype=str)
        elif str(array.type).startswith(("list", "large_list")):
            flat[column] = array.flatten().to_numpy()
            offsets = array.offsets.to_numpy().astype(np.int64)
        else:
            plain[column] = array.to_numpy(zero_copy_only=False)
    return Encoded(flat, offsets - offsets[0], plain, groups)


def training_order(lengths: IntArray, batch_size: int, steps: int, seed: int) -> Iterator[IntArray]:
    """For each of `steps` steps, which items its batch holds.

    Epochs are shuffled, cut into windows of `BUCKET_BATCHES` batches, sorted by length inside a window so that a batch
    needs little padding, and the batches of a window shuffled again.
    """
    generator = np.random.default_rng(stream_seed(seed, "order"))
    done = 0
    while done < steps:
        epoch = generator.permutation(len(lengths))
        for start in range(0, len(epoch), batch_size * BUCKET_BATCHES):
            window = epoch[start : start + batch_size * BUCKET_BATCHES]
            window = window[np.argsort(lengths[window], kind="stable")]
            # A short batch at the end of an epoch would weigh its items more than the others'.
            cuts = [window[i : i + batch_size] for i in range(0, len(window), batch_size)]
            full = [cut for cut in cuts if len(cut) == batch_size] or cuts[:1]
            for index in generator.permutation(len(full)):
                yield full[index]
                done += 1
                if done == steps:
                    return


def scoring_order(lengths: IntArray, batch_size: int) -> Iterator[IntArray]:
    """Every item once, longest first, so that memory peaks in the first batch and padding is least."""
    order = np.argsort(-lengths, kind="stable")
    for start in range(0, len(order), batch_size):
        yield order[start : start + batch_size]


def collate(data: Encoded, items: IntArray, pad: dict[str, int], device: torch.device) -> dict[str, Tensor]:
    """A batch, padded on the right to its longest item.

    Returns:
        Each list-valued column as (batch, length), `attention_mask` as (batch, length), the others as (batch,).
    """
    lengths = data.lengths[items]
    width = int(lengths.max())
    real = np.arange(width)[None, :] < lengths[:, None]
    batch: dict[str, npt.NDArray[Any]] = {"attention_mask": real.astype(np.int64)}
    where = np.concatenate([np.arange(data.offsets[i], data.offsets[i + 1]) for i in items])
    for column, values in data.flat.items():
        padded = np.full(real.shape, pad.get(column, 0), np.int64)
        padded[real] = values[where]
        batch[column] = padded
    batch |= {column: values[items] for column, values in data.plain.items()}
    return {
        column: torch.from_numpy(values).to(device, non_blocking=True) for column, values in batch.items()
    }


def cache_key(*parts: object) -> str:
    """One text for everything that the tokens of a task depend on."""
    return json.dumps(parts, sort_keys=True, default=str)
