"""Student's t with several variances, each known with degrees of freedom of its own.

A mean's variance is a sum of parts: V = V1 + V2 + ..., part j estimated with df_j. Its interval at level 1 - alpha is

    |error|^2 <= sum over j of t(alpha / 2; df_j)^2 V_j

and a p-value is the alpha at which the interval just reaches the hypothesis, so the two never disagree. It holds for any
share of the parts in V, in families of tests as well (Banerjee 1960; Cochran 1964 weighs the quantiles themselves).
Satterthwaite's single t with pooled degrees of freedom does not: where three seeds happen to lie close, it takes the
degrees of freedom from the items, and far out in the tail, where families are tested, that is most of its error.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
from scipy import special

Numbers: TypeAlias = Any  # one, or an array of them
Parts: TypeAlias = Sequence[tuple[Numbers, float]]  # variance and degrees of freedom
MANY = 1e6  # degrees of freedom, where a t is a normal distribution
PRECISION = 1e-12  # of a p-value, relative to it
SMALLEST_P = 1e-290


def t_quantile(upper: float, df: float) -> float:
    """What Student's t exceeds with chance `upper`. `scipy.stats` says the same, and takes a second to import."""
    return float(-special.stdtrit(df, upper))


def half_width(parts: Parts, alpha: float) -> Numbers:
    """Half of the width of the interval that misses with chance `alpha`."""
    # Far out in a tail of few degrees of freedom squares are no numbers any more.
    return functools.reduce(np.hypot, (t_quantile(alpha / 2, df) * np.sqrt(v) for v, df in parts), 0.0)


def p_two_sided(value: float, parts: Parts) -> float:
    """Of the hypothesis that the mean is 0: the alpha at which the half-width is |value|."""
    distance, variance = abs(value), sum(variance for variance, _ in parts)
    if distance == 0 or variance == 0 or math.isinf(distance):
        return 1.0 if distance == 0 else 0.0
    t = distance / math.sqrt(variance)
    # With all of the variance of the fewest degrees of freedom it would be larger, of the most smaller.
    low, high = (
        max(SMALLEST_P, float(2 * special.stdtr(of(df for _, df in parts), -t))) for of in (max, min)
    )
    if half_width(parts, low) < distance:
        return low
    while high > low * (1 + PRECISION):
        middle = math.sqrt(low) * math.sqrt(high)  # their product may be too small for a number
        low, high = (low, middle) if half_width(parts, middle) < distance else (middle, high)
    return high
