"""The statistics of a comparison: seeds and (grouped) test items are crossed random effects.

For methods A and B with seeds s = 1..k and items i = 1..n in groups g = 1..G of n_g items:

    theta_s = m(A, s) - m(B, s)                    theta = mean over s      V1 = var(theta_s) / k       k - 1 df
    e_i = seed-averaged paired score, centred      V2 = c * sum_g (sum_{i in g} e_i)^2 / n^2            1 / S2 - 1 df
    half-width^2 = t(k - 1)^2 V1 + t(1 / S2 - 1)^2 V2             S2 = sum_g (n_g / n)^2; groups alike: 1 / S2 = G

with t at alpha / 2, and p the alpha at which the interval reaches 0 (see `weighted_t`). c takes out what centring takes
away, G / (G - 1) where groups are alike. One method's own score is the same with B = 0. Where m is not a mean over items,
jackknife pseudo-values stand for the items' scores (see `pseudo`). A bootstrap over three seeds, or a test over items
alone, is far too sure of itself: two seeds of one method then differ "significantly" too often.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from . import weighted_t

Floats = npt.NDArray[np.float64]
ALPHA = 0.05
ALIKE = 1e-12  # of a mean: what its groups differ by is rounding


@dataclass(frozen=True)
class Groups:
    """The group of each item, as numbers: looked up once for all figures of the same items."""

    index: npt.NDArray[np.int64]  # (items,), from 0
    count: int
    effective: float | None = None  # `effective_count`, where it is that of the items behind pseudo-values

    @classmethod
    def of(cls, names: Sequence[str] | npt.NDArray[Any]) -> Groups:
        """From a name an item."""
        found, index = np.unique(np.asarray(names), return_inverse=True)
        return cls(index.astype(np.int64), len(found))

    @cached_property
    def _shares(self) -> Floats:
        """Of the items, (count,)."""
        return np.bincount(self.index, minlength=self.count) / len(self.index)

    @cached_property
    def effective_count(self) -> float:
        """How many groups of one size tell as much: (sum of sizes)^2 / sum of squares."""
        if self.effective is not None:
            return self.effective
        return 1 / float(np.square(self._shares).sum()) if self.count else 0.0

    @cached_property
    def correction(self) -> float:
        """What the sum of squares of centred group sums is multiplied by: it has lost what the mean takes.

        Exact where a group's items are alike, and a little wide where they are not.
        """
        squares, cubes = float(np.square(self._shares).sum()), float((self._shares**3).sum())
        return squares / (squares - 2 * cubes + squares**2)

    @cached_property
    def df(self) -> float:
        """Degrees of freedom of a variance over groups."""
        return max(1.0, self.effective_count - 1)


@dataclass(frozen=True)
class Scores:
    """One figure of one method, or of a difference between two: a row for each seed."""

    seeds: tuple[int, ...]
    parts: Floats  # (seeds, items): a score an item, or a pseudo-value a block of items
    values: Floats  # (seeds,): the figure itself; the mean of its row where it is a mean over items

    @classmethod
    def of_items(cls, by_seed: Mapping[int, Floats]) -> Scores:
        """Of a figure that is a mean over items; `by_seed` holds (items,) scores."""
        seeds = tuple(sorted(by_seed))
        parts = np.stack([by_seed[seed] for seed in seeds]).astype(np.float64)
        return cls(seeds, parts, parts.mean(1))

    def without(self, left_out: Collection[int]) -> Scores | None:
        """Those of the other seeds; None where there is none."""
        kept = [i for i, seed in enumerate(self.seeds) if seed not in left_out]
        seeds = tuple(self.seeds[i] for i in kept)
        return Scores(seeds, self.parts[kept], self.values[kept]) if kept else None

    def minus(self, other: Scores) -> Scores | None:
        """The differences over the seeds that both have; None where they share none."""
        shared = [seed for seed in self.seeds if seed in other.seeds]
        if not shared:
            return None
        mine = [self.seeds.index(seed) for seed in shared]
        its = [other.seeds.index(seed) for seed in shared]
        return Scores(
            tuple(shared), self.parts[mine] - other.parts[its], self.values[mine] - other.values[its]
        )


@dataclass(frozen=True)
class Part:
    """One source of chance in a mean."""

    variance: float
    df: float
    of_items: bool = False  # more seeds do not make it smaller


@dataclass(frozen=True)
class Estimate:
    """A mean with its uncertainty. `parts` are None where one item and one seed leave nothing to say, () of what is exact."""

    value: float
    parts: tuple[Part, ...] | None
    seeds: int
    alpha: float = ALPHA  # the chance of error of its interval
    share_of: int | None = None  # items that it is a share of: its interval then stays between 0 and 1
    one_group: bool = False  # all its items are of one group, which tells nothing of other items

    @property
    def decides(self) -> bool:
        """Whether it may tell two things apart: one seed does not know other seeds, nor one group of items other items."""
        return self.parts is not None and self.seeds > 1 and not self.one_group

    @property
    def variance(self) -> float | None:
        return None if self.parts is None else sum(part.variance for part in self.parts)

    def half_width(self, alpha: float | None = None) -> float | None:
        """How far the interval that misses with chance `alpha` reaches, to its farther end."""
        if self.parts == ():
            return 0.0
        ends = self.interval(alpha)
        return None if ends is None else max(self.value - ends[0], ends[1] - self.value)

    def interval(self, alpha: float | None = None) -> tuple[float, float] | None:
        """The ends of the interval that misses with chance `alpha`."""
        if self.parts is None:
            return None
        alpha = alpha or self.alpha
        half = float(weighted_t.half_width(self._parts, alpha))
        if alpha < self._least_p:
            half = max(half, abs(self.value) * (1 + ALIKE))  # 0 is inside
        if self.share_of is None or not 0 <= self.value <= 1:
            return self.value - half, self.value + half
        return self._wilson(half, alpha)

    def p_two_sided(self) -> float | None:
        """Of the hypothesis that the mean is 0; None where it does not decide."""
        if self.parts is None or not self.decides:
            return None
        return max(self._least_p, weighted_t.p_two_sided(self.value, self._parts))

    def p_above_zero(self) -> float | None:
        """One-sided p of the hypothesis that the mean is 0 or less."""
        p = self.p_two_sided()
        if p is None:
            return None
        return p / 2 if self.value > 0 else 1 - p / 2

    @property
    def _least_p(self) -> float:
        """Where all groups of items differ by the same, no spread is seen, and their sign alone tells: 1 in 2^(G - 1) by chance."""
        alike = (
            part for part in self.parts or () if part.of_items and part.variance <= (ALIKE * self.value) ** 2
        )
        least = next((2.0**-part.df for part in alike), 0.0)
        return least if self.value and self.share_of is None else 0.0

    @property
    def _parts(self) -> list[tuple[float, float]]:
        return [(part.variance, part.df) for part in self.parts or ()]

    def _wilson(self, half: float, alpha: float) -> tuple[float, float]:
        """Wilson's interval with the variance that was found in the place of p (1 - p) / n: near an end, p tells too little of it."""
        p = self.value
        if 0 < p < 1:
            squared = half**2 / (p * (1 - p))
        else:  # every item of every seed: there is no variance to see
            df = next((part.df for part in self.parts or () if part.of_items), weighted_t.MANY)
            squared = weighted_t.t_quantile(alpha / 2, df) ** 2 / (self.share_of or 1)
        middle = (p + squared / 2) / (1 + squared)
        side = math.sqrt(squared * p * (1 - p) + squared**2 / 4) / (1 + squared)
        return middle - side, middle + side


def estimate(
    scores: Scores,
    groups: Groups | Sequence[str] | npt.NDArray[np.str_],
    alpha: float = ALPHA,
    share: bool = False,
) -> Estimate:
    """The mean of some scores and its variance over seeds and groups of items.

    Args:
        scores: (seeds, items); of a difference between two methods, paired, or of one method.
        groups: (items,) the group of each item.
        alpha: the chance with which the interval may miss.
        share: whether it is one method's own score on a scale from 0 to 1, of which the interval then stays inside.
    """
    seeds, items = scores.parts.shape
    known = groups if isinstance(groups, Groups) else Groups.of(groups)
    mean = scores.parts.sum(0) / seeds
    sums = np.bincount(known.index, weights=mean - mean.sum() / items, minlength=known.count)
    of_seeds, of_items = variances(scores.values, sums, known)
    parts = []
    if seeds > 1:
        parts.append(Part(float(of_seeds), seeds - 1.0))
    if known.count > 1:
        parts.append(Part(float(of_items), known.df, of_items=True))
    value = float(scores.values.sum()) / seeds
    return Estimate(value, tuple(parts) or None, seeds, alpha, items if share else None, known.count < 2)


def variances(values: Floats, sums: npt.NDArray[Any], groups: Groups) -> tuple[Any, Any]:
    """V1 and V2 above, of any number of means at once; 0 where one seed or one group tells none.

    Args:
        values: (..., seeds) the mean of each seed.
        sums: (..., groups) the sum over each group's items, averaged over seeds, centred.
    """
    seeds = values.shape[-1]
    of_seeds = values.var(-1, ddof=1) / seeds if seeds > 1 else np.zeros(values.shape[:-1])
    if groups.count < 2:
        return of_seeds, np.zeros(values.shape[:-1])
    return of_seeds, groups.correction * np.square(sums).sum(-1) / len(groups.index) ** 2


def mean_estimate(values: Sequence[float] | Floats, alpha: float = ALPHA) -> Estimate:
    """Of one sample; one value has no spread to tell."""
    array = np.asarray(values, np.float64)
    count, value = len(array), float(array.mean())
    if count < 2:
        return Estimate(value, None, count, alpha)
    return Estimate(value, (Part(float(array.var(ddof=1)) / count, count - 1.0),), count, alpha)


def difference_of(one: Estimate, other: Estimate) -> Estimate:
    """The first minus the second, of separate samples: each keeps its variance, and the degrees of freedom that it has."""
    parts = None if one.parts is None or other.parts is None else (*one.parts, *other.parts)
    return Estimate(
        one.value - other.value,
        parts,
        min(one.seeds, other.seeds),
        one_group=one.one_group or other.one_group,
    )


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down correction: adjusted p-values in the given order."""
    order = sorted(range(len(p_values)), key=lambda i: p_values[i])
    adjusted, highest = [0.0] * len(p_values), 0.0
    for rank, i in enumerate(order):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[i]))
        adjusted[i] = highest
    return adjusted


Pairs = dict[tuple[int, int], Estimate]


def paired_estimates(
    scores: Sequence[Scores], groups: Groups | Sequence[str] | npt.NDArray[np.str_], alpha: float = ALPHA
) -> Pairs:
    """Of every two methods, by their places, the first's score minus the second's, over the seeds that both have."""
    groups = groups if isinstance(groups, Groups) else Groups.of(groups)
    found: Pairs = {}
    for one, other in itertools.combinations(range(len(scores)), 2):
        if (difference := scores[one].minus(scores[other])) is not None:
            found[one, other] = estimate(difference, groups, alpha)
            found[other, one] = replace(found[one, other], value=-found[one, other].value)
    return found


def best_set_marks(
    scores: Sequence[Scores], pairs: Pairs, higher_is_better: bool, margin: float, alpha: float = ALPHA
) -> list[str]:
    """One mark a method: which are the best, as far as these runs can tell.

    A method leaves the set when some other is better with one-sided p * (methods - 1) <= alpha. `best`: alone in the
    set. `equivalent`: in the set, and the interval of its difference to the top that misses with chance
    2 alpha / (methods - 1) lies inside +-margin. `open`: in the set without that. Empty: not in it, or there are too few
    seeds, groups of items or methods to say.

    Args:
        pairs: of the scores, as `paired` makes them.
    """
    methods = len(scores)
    if methods < 2 or not any(found.decides for found in pairs.values()):
        return [""] * methods
    each = 2 * alpha / (methods - 1)  # of a two-sided interval: any of the others may be the one that errs
    means = [(1.0 if higher_is_better else -1.0) * float(one.values.mean()) for one in scores]

    def beaten_by(b: int, m: int) -> bool:
        """Whether b is shown to be better than m."""
        found = pairs.get((b, m) if higher_is_better else (m, b))
        half = found.half_width(each) if found is not None and found.decides else None
        return found is not None and half is not None and found.value > 0 and found.value >= half

    inside = [m for m in range(methods) if not any(beaten_by(b, m) for b in range(methods) if b != m)]
    if len(inside) == 1:
        return ["best" if m in inside else "" for m in range(methods)]
    marks = [""] * methods
    ranked = sorted(inside, key=lambda m: -means[m])
    for m in inside:
        found = pairs.get((m, ranked[0] if m != ranked[0] else ranked[1]))
        half = found.half_width(each) if found is not None and found.decides else None
        equal = found is not None and half is not None and abs(found.value) + half <= margin
        marks[m] = "equivalent" if equal else "open"
    return marks


def after_warmup(values: Sequence[float]) -> Floats:
    """Step times without the first tenth (at least one step, where there are more): caches and allocators warm up."""
    drop = min(len(values) - 1, max(1, len(values) // 10)) if len(values) > 1 else 0
    return np.asarray(values[drop:], dtype=np.float64)
