"""Rows into train, validation and test: seeded, stratified, and nothing that belongs together on two sides.

Rows of one unit (a group, or equal texts) stay together. Within each stratum (a label) the units stand in the order of a
hash of the seed and their name, so a row's place does not depend on the order of the file, and a longer file moves few.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Any

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


def joined(groups: npt.NDArray[Any], texts: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """What each row belongs to, by the smallest group of it: all that a group or a text joins, through any number of steps.

    Args:
        groups, texts: (rows,) the two of each row.
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    names, group = np.unique(groups, return_inverse=True)
    known, text = np.unique(texts, return_inverse=True)
    size = len(names) + len(known)
    links = coo_array((np.ones(len(group), bool), (group, text + len(names))), shape=(size, size))
    part = connected_components(links, directed=False)[1][: len(names)]
    _, first = np.unique(part, return_index=True)  # names are sorted
    return np.asarray(names[first[part]][group])


def split_rows(
    units: Hashes, strata: npt.NDArray[np.int64], shares: dict[str, float]
) -> dict[str, npt.NDArray[np.bool_]]:
    """Which rows go where.

    Args:
        units: (rows,) the hash of what each row belongs to.
        strata: (rows,) what the shares are kept within: a label's number, from 0.
        shares: of the rows, by split, in order.
    """
    names, unit, sizes = np.unique(units, return_inverse=True, return_counts=True)
    stratum = _most_frequent(names, unit, strata)
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


def numbered(units: Hashes, strata: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """The strata by numbers that depend on which units are in each, and neither on its name nor on the order of rows."""
    number = np.unique(strata, return_inverse=True)[1]
    count = int(number.max()) + 1
    sums, least = np.zeros(count, np.uint64), np.full(count, np.iinfo(np.uint64).max)
    np.add.at(sums, number, units)
    np.minimum.at(least, number, units)  # which a row more seldom changes
    return np.argsort(np.lexsort((sums, least)))[number]


def _most_frequent(
    names: Hashes, unit: npt.NDArray[np.int64], strata: npt.NDArray[np.int64]
) -> npt.NDArray[np.int64]:
    """The stratum that most rows of each unit are of; of several alike one by the unit's hash."""
    width = int(strata.max()) + 1
    pairs, sizes = np.unique(unit * width + strata, return_counts=True)
    owner, stratum = pairs // width, pairs % width
    turn = (stratum.astype(np.uint64) + names[owner]) % np.uint64(width)
    order = np.lexsort((turn, -sizes, owner))  # the largest of each unit first
    _, at = np.unique(owner[order], return_index=True)
    return np.asarray(stratum[order][at])
