"""The statistics of a comparison: seeds and (grouped) test items are crossed random effects.

For methods A and B with seeds s = 1..k and items i = 1..n in groups g = 1..G:

    theta_s = m(A, s) - m(B, s)                    theta = mean over s      V1 = var(theta_s) / k,   k - 1 df
    e_i = seed-averaged paired score, centred      V2 = G / (G-1) * sum_g (sum_{i in g} e_i)^2 / n^2,  G - 1 df
    V = V1 + V2                                    df = V^2 / (V1^2 / (k-1) + V2^2 / (G-1))   (Satterthwaite)

and a two-sided t on theta / sqrt(V). One method's own score is the same with B = 0. Where m is not a mean over items,
jackknife pseudo-values stand for the items' scores (see `pseudo`). A bootstrap over three seeds, or a test over items
alone, is far too sure of itself: two seeds of one method then differ "significantly" too often.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import special

Floats = npt.NDArray[np.float64]
ALPHA = 0.05
MOST_SEEDS = 50  # beyond it more seeds are no advice
MANY = 1e6  # degrees of freedom, where a t is a normal distribution


def t_quantile(upper: float, df: float) -> float:
    """What Student's t exceeds with chance `upper`. `scipy.stats` says the same, and takes a second to import."""
    return float(-special.stdtrit(df, upper))


@dataclass(frozen=True)
class Groups:
    """The group of each item, as numbers: looked up once for all figures of the same items."""

    index: npt.NDArray[np.int64]  # (items,), from 0
    count: int

    @classmethod
    def of(cls, names: Sequence[str] | npt.NDArray[Any]) -> Groups:
        """From a name an item."""
        found, index = np.unique(np.asarray(names), return_inverse=True)
        return cls(index.astype(np.int64), len(found))


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
class Estimate:
    """A mean with its uncertainty. `variance` and `df` are None where one item and one seed leave nothing to say."""

    value: float
    variance: float | None
    df: float | None
    seeds: int
    item_variance: float = 0.0  # the part that more seeds do not make smaller
    alpha: float = ALPHA  # the chance of error of its interval

    def half_width(self, alpha: float | None = None) -> float | None:
        """Half of the width of the interval that misses with chance `alpha`."""
        if self.variance is None or self.df is None:
            return None
        return t_quantile((alpha or self.alpha) / 2, self.df) * math.sqrt(self.variance)

    def p_two_sided(self) -> float | None:
        """Of the hypothesis that the mean is 0; never from one seed, where items alone would speak."""
        if self.variance is None or self.df is None or self.seeds < 2:
            return None
        if self.variance == 0:
            return 1.0 if self.value == 0 else 0.0
        return float(2 * special.stdtr(self.df, -abs(self.value) / math.sqrt(self.variance)))

    def p_above_zero(self) -> float | None:
        """One-sided p of the hypothesis that the mean is 0 or less."""
        p = self.p_two_sided()
        if p is None:
            return None
        return p / 2 if self.value > 0 else 1 - p / 2


def estimate(
    scores: Scores, groups: Groups | Sequence[str] | npt.NDArray[np.str_], alpha: float = ALPHA
) -> Estimate:
    """The mean of some scores and its variance over seeds and groups of items.

    Args:
        scores: (seeds, items); of a difference between two methods, paired, or of one method.
        groups: (items,) the group of each item.
        alpha: the chance with which the interval may miss.
    """
    seeds, items = scores.parts.shape
    value = float(scores.values.sum()) / seeds
    apart = scores.values - value
    between_seeds = float(apart @ apart) / (seeds - 1) / seeds if seeds > 1 else 0.0
    known = groups if isinstance(groups, Groups) else Groups.of(groups)
    count = known.count
    if count < 2:
        if seeds < 2:
            return Estimate(value, None, None, seeds, alpha=alpha)
        return Estimate(value, between_seeds, seeds - 1.0, seeds, alpha=alpha)
    mean = scores.parts.sum(0) / seeds
    sums = np.bincount(known.index, weights=mean - mean.sum() / items, minlength=count)
    between_groups = float(count / (count - 1) * (sums @ sums) / items**2)
    variance = between_seeds + between_groups
    spread = between_groups**2 / (count - 1) + (between_seeds**2 / (seeds - 1) if seeds > 1 else 0.0)
    df = variance**2 / spread if spread > 0 else count - 1.0
    return Estimate(value, variance, df, seeds, between_groups, alpha)


def mean_estimate(values: Sequence[float] | Floats, alpha: float = ALPHA) -> Estimate:
    """Of one sample; one value has no spread to tell."""
    array = np.asarray(values, np.float64)
    count, value = len(array), float(array.mean())
    if count < 2:
        return Estimate(value, None, None, count, alpha=alpha)
    return Estimate(value, float(array.var(ddof=1)) / count, count - 1.0, count, alpha=alpha)


def difference_of(one: Estimate, other: Estimate) -> Estimate:
    """The first minus the second, of separate samples (Welch, Satterthwaite)."""
    value, seeds = one.value - other.value, min(one.seeds, other.seeds)
    if one.variance is None or other.variance is None or one.df is None or other.df is None:
        return Estimate(value, None, None, seeds)
    variance = one.variance + other.variance
    spread = one.variance**2 / one.df + other.variance**2 / other.df
    df = variance**2 / spread if spread > 0 else one.df + other.df
    return Estimate(value, variance, df, seeds, one.item_variance + other.item_variance)


def seeds_that_decide(difference: Estimate, alpha: float = ALPHA) -> int | None:
    """At how many seeds a difference would exceed half of its interval that misses with chance `alpha`; None where not before `MOST_SEEDS`.

    With the variances that were seen: what comes from the seeds shrinks with their number, what comes from the items stays, and its
    degrees of freedom, which are not known apart, are taken as many.
    """
    if difference.variance is None or difference.value == 0:
        return None
    of_seeds = max(0.0, difference.variance - difference.item_variance) * difference.seeds
    for seeds in range(max(2, difference.seeds + 1), MOST_SEEDS + 1):
        part = of_seeds / seeds
        variance = part + difference.item_variance
        df = (seeds - 1) * (variance / part) ** 2 if part else MANY
        if t_quantile(alpha / 2, min(df, MANY)) * math.sqrt(variance) <= abs(difference.value):
            return seeds
    return None


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
    set. `equivalent`: in the set, and the interval of its difference to the top that misses with chance 2 alpha lies
    inside +-margin. `open`: in the set without that. Empty: not in it, or there are too few seeds or methods to say.

    Args:
        pairs: of the scores, as `paired` makes them.
    """
    methods = len(scores)
    if methods < 2 or max(len(one.seeds) for one in scores) < 2:
        return [""] * methods
    means = [(1.0 if higher_is_better else -1.0) * float(one.values.mean()) for one in scores]

    def beaten_by(b: int, m: int) -> bool:
        """Whether b is shown to be better than m."""
        found = pairs.get((b, m) if higher_is_better else (m, b))
        p = None if found is None else found.p_above_zero()
        return p is not None and p * (methods - 1) <= alpha

    inside = [m for m in range(methods) if not any(beaten_by(b, m) for b in range(methods) if b != m)]
    if len(inside) == 1:
        return ["best" if m in inside else "" for m in range(methods)]
    marks = [""] * methods
    ranked = sorted(inside, key=lambda m: -means[m])
    for m in inside:
        found = pairs.get((m, ranked[0] if m != ranked[0] else ranked[1]))
        half = None if found is None or found.seeds < 2 else found.half_width(2 * alpha)
        equal = found is not None and half is not None and abs(found.value) + half <= margin
        marks[m] = "equivalent" if equal else "open"
    return marks


def after_warmup(values: Sequence[float]) -> Floats:
    """Step times without the first tenth (at least one step, where there are more): caches and allocators warm up."""
    drop = min(len(values) - 1, max(1, len(values) // 10)) if len(values) > 1 else 0
    return np.asarray(values[drop:], dtype=np.float64)
