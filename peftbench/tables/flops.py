"""What share of a device's peak a training step reaches.

For a fixed number of items the operations of a step are a polynomial of second degree in the widths of its parts (linear
layers and attention), so the counts of three shapes give those of every step, and of an encoder-decoder six. Where tokens
are asked for, the output layer works on their places alone, and their number is one more term.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

# Of a step's parts: rows, padded tokens of one, those of its decoder (or 0), and the tokens that are asked for.
Shape = Sequence[Sequence[int]]
TOLERANCE = 1e-9  # terms that differ less than that are one
LIKE = 1e-6  # of the largest of a term, how far a step may be from what the counted ones make

# Dense peaks without sparsity, operations a second, by the vendors' data sheets. float32 without TF32, as torch has it.
PEAKS: tuple[tuple[str, dict[str, float]], ...] = (
    (r"H200", {"bfloat16": 989e12, "float32": 67e12}),
    (r"H100 PCIe", {"bfloat16": 756e12, "float32": 51e12}),
    (r"H100 NVL", {"bfloat16": 835e12, "float32": 60e12}),
    (r"H100", {"bfloat16": 989e12, "float32": 67e12}),
    (r"A100", {"bfloat16": 312e12, "float32": 19.5e12}),
    (r"L40S", {"bfloat16": 362e12, "float32": 91.6e12}),
    (r"\bL4\b", {"bfloat16": 121e12, "float32": 30.3e12}),
    (r"\bA10\b", {"bfloat16": 125e12, "float32": 31.2e12}),
    (r"RTX A6000", {"bfloat16": 154.8e12, "float32": 38.7e12}),
    (r"RTX 4090", {"bfloat16": 165.2e12, "float32": 82.6e12}),
    (r"RTX 3090$", {"bfloat16": 71e12, "float32": 35.6e12}),
    (r"V100-SXM2", {"float32": 15.7e12}),
    (r"\bT4\b", {"float32": 8.1e12}),
)


def peak_flops_per_s(gpu: str | None, dtype: str) -> float | None:
    """The device's peak in this data type, None where it is not known; no processor's is."""
    for pattern, peaks in PEAKS:
        if gpu is not None and re.search(pattern, gpu):
            return peaks.get(dtype)
    return None


def flops_of(counted: Sequence[tuple[Shape, int]], shapes: Sequence[Shape]) -> list[float] | None:
    """The operations of steps by their shapes; None where those that were counted do not tell some of them.

    Args:
        counted: (shape, operations) of some steps, as `telling` chooses them.
        shapes: of the steps asked for.
    """
    terms = _terms([*(shape for shape, _ in counted), *shapes])
    known, asked = terms[: len(counted)], terms[len(counted) :]
    told = np.linalg.pinv(known, rcond=TOLERANCE)
    if not np.allclose(asked @ told @ known, asked, rtol=0, atol=LIKE):
        return None
    each = told @ np.array([flops for _, flops in counted], np.float64)
    return [float(flops) for flops in asked @ each]


def telling(shapes: Sequence[Shape]) -> list[int]:
    """Of some steps the fewest whose operations tell those of all the others."""
    from scipy.linalg import qr

    terms = _terms(shapes)
    r, order = qr(terms.T, mode="r", pivoting=True)
    sizes = np.abs(np.diag(r))
    return [int(step) for step in order[: int((sizes > TOLERANCE * sizes[0]).sum())]]


def _terms(shapes: Sequence[Shape]) -> npt.NDArray[np.float64]:
    """What operations are a sum of, each of like size: (steps, 7)."""
    rows = []
    for shape in shapes:
        parts = np.array([[*part, 0, 0][:4] for part in shape], np.float64)
        items, width, decoder, asked = parts.T
        each = (np.ones_like(items), width, width**2, decoder, decoder**2, width * decoder)
        rows.append([*(float((items * term).sum()) for term in each), float(asked.sum())])
    found = np.array(rows)
    return np.asarray(found / np.maximum(found.max(0), 1))
