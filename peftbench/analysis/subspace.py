"""How far two sets of directions span the same space. Hu et al. 2021 (arXiv 2106.09685), equation 4 and appendix G.

    phi(i, j) = || U1[:, :i]^T U2[:, :j] ||_F^2 / min(i, j)        1: one span holds the other; 0: they are orthogonal

The paper takes the right-singular vectors of A (its appendix says "left"; with A of shape (r, in) only right-singular ones lie
in one space for two ranks). A is known up to an invertible mix of its rows, which leaves their span as it is and not the order
of the directions in it: the right-singular vectors of the product B A are the ones that such a mix does not change.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]


def right_directions(matrix: npt.ArrayLike) -> Floats:
    """The right-singular vectors of a matrix (rows, width) as columns (width, its rank), the strongest first."""
    array = np.asarray(matrix, np.float64)
    _, values, rows = np.linalg.svd(array, full_matrices=False)
    return rows[: _rank(values, array.shape)].T


def product_svd(b: npt.ArrayLike, a: npt.ArrayLike) -> tuple[Floats, Floats, Floats]:
    """The singular value decomposition of B A, which is never formed.

    Args:
        b: (out, rank).
        a: (rank, in).

    Returns:
        U (out, k), the singular values (k,) and V (in, k), where k is the rank of B A.
    """
    left, of_left = np.linalg.qr(np.asarray(b, np.float64))
    right, of_right = np.linalg.qr(np.asarray(a, np.float64).T)
    u, values, v = np.linalg.svd(of_left @ of_right.T, full_matrices=False)
    rank = _rank(values, (len(left), len(right)))
    return left @ u[:, :rank], values[:rank], right @ v[:rank].T


def _rank(values: Floats, shape: tuple[int, ...]) -> int:
    """How many singular values are more than rounding. The numbers were float32, whatever they are held in now."""
    if not len(values):
        return 0
    return int((values > values[0] * max(shape) * np.finfo(np.float32).eps).sum())


def similarity(one: Floats, other: Floats) -> Floats:
    """phi(i, j) at place [i - 1, j - 1] of (m, n), for orthonormal columns one (width, m) and other (width, n)."""
    shared = np.cumsum(np.cumsum((one.T @ other) ** 2, axis=0), axis=1)
    return shared / _smaller(shared.shape)


def chance(shape: tuple[int, ...], width: int) -> Floats:
    """What phi, of this shape (m, n), is on average where both spans are drawn at random: max(i, j) / width."""
    i, j = np.arange(1, shape[0] + 1)[:, None], np.arange(1, shape[1] + 1)[None, :]
    return np.maximum(i, j) / width


def above_chance(phi: Floats, width: int) -> Floats:
    """(phi - chance) / (1 - chance): 0 as at random, 1 where one span holds the other; nan where chance alone is 1."""
    floor = chance(phi.shape, width)
    room = 1 - floor
    return np.divide(phi - floor, room, out=np.full_like(phi, np.nan), where=room > 0)


def _smaller(shape: tuple[int, ...]) -> npt.NDArray[np.int64]:
    return np.minimum(np.arange(1, shape[0] + 1)[:, None], np.arange(1, shape[1] + 1)[None, :])
