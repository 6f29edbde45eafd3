"""Subspaces and projections: constructed cases, closed forms, and the values of the paper's table 7."""

from __future__ import annotations

import math

import numpy as np
import pytest

from peftbench.analysis.projection import (
    amplification,
    chance_projected_norm,
    own_projected_norm,
    projected_norm,
    random_directions,
)
from peftbench.analysis.subspace import (
    Floats,
    above_chance,
    chance,
    product_svd,
    right_directions,
    similarity,
)

WIDTH = 40
DRAW = np.random.default_rng(0)
BASIS = random_directions(DRAW, WIDTH, WIDTH)


def turned(columns: Floats) -> Floats:
    """Other directions of the same span."""
    return columns @ random_directions(DRAW, columns.shape[1], columns.shape[1])


def test_identical_and_orthogonal_spans() -> None:
    one, other = BASIS[:, :5], BASIS[:, 5:12]
    phi = similarity(one, one)
    assert np.diag(phi) == pytest.approx(np.ones(5))
    assert phi == pytest.approx(
        np.ones((5, 5))
    )  # of the same ordered directions one span always holds the other
    assert similarity(one, turned(one))[-1, -1] == pytest.approx(1)
    assert similarity(one, turned(one))[0, 0] < 0.999
    assert similarity(one, other) == pytest.approx(np.zeros((5, 7)), abs=1e-12)


def test_nested_and_partly_shared_spans() -> None:
    small, large = BASIS[:, :3], turned(BASIS[:, :9])
    assert similarity(small, large)[-1, -1] == pytest.approx(1)  # the smaller lies in the larger
    mixed = BASIS[:, [0, 1, 20, 21]]
    assert similarity(small, mixed)[-1, -1] == pytest.approx(2 / 3)  # 2 of the smaller span's 3
    grid = similarity(BASIS[:, :4], mixed)
    assert (
        grid[1, 3] == pytest.approx(1) and grid[3, 3] == pytest.approx(0.5) and grid[0, 0] == pytest.approx(1)
    )
    swapped = similarity(mixed, BASIS[:, :4])
    assert swapped == pytest.approx(grid.T)


def test_it_is_one_minus_the_squared_projection_metric() -> None:
    """Appendix G, corrected: phi = 1 - d^2 / p with d^2 = p - the sum of squared cosines of the principal angles."""
    one, other = (random_directions(DRAW, WIDTH, r) for r in (4, 7))
    cosines = np.linalg.svd(one.T @ other, compute_uv=False)
    distance = math.sqrt(4 - (cosines**2).sum())
    assert similarity(one, other)[-1, -1] == pytest.approx(1 - distance**2 / 4)


def test_random_spans_share_what_chance_gives() -> None:
    """The mean of 400 draws; a single phi(1, 1) has a standard deviation of about sqrt(2) / width, so 6 errors are .011."""
    found = np.mean(
        [similarity(*(random_directions(DRAW, WIDTH, r) for r in (6, 9))) for _ in range(400)],
        axis=0,
    )
    assert found == pytest.approx(chance((6, 9), WIDTH), abs=0.011)
    assert chance((6, 9), WIDTH)[5, 8] == 9 / WIDTH
    assert above_chance(chance((6, 9), WIDTH), WIDTH) == pytest.approx(np.zeros((6, 9)))
    assert above_chance(np.ones((3, 3)), WIDTH) == pytest.approx(np.ones((3, 3)))
    assert np.isnan(above_chance(np.ones((1, 2)), 2)[0, 1])


def test_a_mix_of_rows_changes_the_directions_of_a_and_not_those_of_the_product() -> None:
    a, b = DRAW.standard_normal((4, 30)), DRAW.standard_normal((20, 4))
    mix = DRAW.standard_normal((4, 4))
    other_a, other_b = mix @ a, b @ np.linalg.inv(mix)
    u, values, v = product_svd(b, a)
    assert u @ np.diag(values) @ v.T == pytest.approx(b @ a)
    assert u.T @ u == pytest.approx(np.eye(4), abs=1e-10) and v.T @ v == pytest.approx(np.eye(4), abs=1e-10)
    of_product = similarity(v, product_svd(other_b, other_a)[2])
    assert np.diag(of_product) == pytest.approx(np.ones(4))
    of_a = similarity(right_directions(a), right_directions(other_a))
    assert of_a[-1, -1] == pytest.approx(1) and of_a[0, 0] < 0.99
    wide = product_svd(DRAW.standard_normal((3, 8)), DRAW.standard_normal((8, 5)))  # rank above both sides
    assert [part.shape for part in wide] == [(3, 3), (3,), (5, 3)]


def test_projections_against_their_closed_forms() -> None:
    weight = DRAW.standard_normal((24, 36))
    u, values, v = np.linalg.svd(weight)
    own = own_projected_norm(weight, 5)
    assert projected_norm(weight, u[:, :5], v[:5].T) == pytest.approx(own)
    assert own == pytest.approx(math.sqrt((values[:5] ** 2).sum()))
    drawn = [
        projected_norm(
            weight,
            random_directions(DRAW, 24, 5),
            random_directions(DRAW, 36, 5),
        )
        ** 2
        for _ in range(500)
    ]
    expected = chance_projected_norm(float(np.linalg.norm(weight)), (24, 36), 5)
    # 25 entries of about one variance: the mean of 500 squares has a relative error of about sqrt(2 / 25 / 500) = .013.
    assert np.mean(drawn) == pytest.approx(expected**2, rel=0.06)


@pytest.mark.parametrize(("rank", "computed", "printed"), [(4, 0.0202, 0.02), (64, 0.3227, 0.33)])
def test_the_random_column_of_table_7(rank: int, computed: float, printed: float) -> None:
    found = chance_projected_norm(61.95, (12288, 12288), rank)
    assert found == pytest.approx(computed, abs=5e-5) and found == pytest.approx(printed, abs=0.01)


def test_an_update_that_amplifies_what_the_weights_hardly_do() -> None:
    u, v = BASIS[:, :2], BASIS[:, 2:4]
    weight = 0.1 * u @ v.T + 5.0 * BASIS[:, 10:14] @ BASIS[:, 14:18].T
    update = 3.0 * u @ v.T
    on_update = projected_norm(weight, u, v)
    assert on_update == pytest.approx(0.1 * math.sqrt(2))
    assert amplification(float(np.linalg.norm(update)), on_update) == pytest.approx(30)
    assert amplification(1.0, 0.0) == math.inf
