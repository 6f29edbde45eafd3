"""Rows into train, validation and test: seeded, stratified, and nothing that belongs together on two sides.

Rows of one unit (a group, or equal texts) stay together. Within each stratum (a label) the units stand in the order of a
hash of the seed and their name, so a row's place does not depend on the order of the file, and a longer file moves few.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

GOLDEN = (5**0.5 - 1) / 2
FEW = 20  # units of a stratum
LARGE = (
    0.05  # of a stratum's rows: units from there on go to the first split, where they shift the shares least
)
SHARES = {"train": 0.7, "validation": 0.1, "test": 0.2}
Hashes = npt.NDArray[np.uint64]


def hashes(names: Iterable[str], seed: int) -> Hashes:
    """A 64-bit hash of each name."""
    key = str(seed).encode()
    found = (hashlib.blake2b(name.encode(), digest_size=8, key=key).digest() for name in names)
    return np.fromiter((int.from_bytes(one, "big") for one in found), np.uint64)


def split_rows(
    units: Hashes, strata: npt.NDArray[np.int64], shares: dict[str, float]
) -> dict[str, npt.NDArray[np.bool_]]:
    """Which rows go where.

    Args:
        units: (rows,) the hash of what each row belongs to.
        strata: (rows,) what the shares are kept within: a label's number.
        shares: of the rows, by split, in order.
    """
    names, unit, sizes = np.unique(units, return_inverse=True, return_counts=True)
    stratum = _most_frequent(unit, strata, len(names))
    small = sizes < LARGE * np.bincount(stratum, weights=sizes)[stratum]
    many = np.bincount(stratum)[stratum] >= FEW
    # Names are sorted hashes: as good as shuffled.
    order = np.lexsort((names, small & many, stratum))
    ends = np.cumsum(sizes[order])
    # How many rows of its stratum stand before each unit, and how many there are.
    starts_at = np.searchsorted(stratum[order], stratum[order], side="left")
    last_at = np.searchsorted(stratum[order], stratum[order], side="right") - 1
    before_stratum = ends[starts_at] - sizes[order][starts_at]
    middle = ends - sizes[order] / 2 - before_stratum
    position = middle / (ends[last_at] - before_stratum)
    # A stratum of few units would put them at the same few places as every other one does, and a small share would get
    # none of any: there the places are turned, from stratum to stratum by the golden ratio, which spreads them evenly.
    units_in = last_at - starts_at + 1
    turned = (position + stratum[order] * GOLDEN) % 1
    position = np.where((units_in > 1) & (units_in < FEW), turned, position)
    bounds = np.cumsum(list(shares.values()))
    chosen = np.empty(len(names), np.int64)
    chosen[order] = np.searchsorted(bounds[:-1] / bounds[-1], position, side="right")
    return {split: chosen[unit] == number for number, split in enumerate(shares)}


def _most_frequent(
    unit: npt.NDArray[np.int64], strata: npt.NDArray[np.int64], count: int
) -> npt.NDArray[np.int64]:
    """The stratum that most rows of each unit are of."""
    width = int(strata.max()) + 1
    pairs, sizes = np.unique(unit * width + strata, return_counts=True)
    order = np.lexsort((-sizes, pairs // width))  # the largest of each unit first
    owners, at = np.unique(pairs[order] // width, return_index=True)
    found = np.zeros(count, np.int64)
    found[owners] = pairs[order][at] % width
    return found
