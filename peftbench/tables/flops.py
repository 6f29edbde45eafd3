"""What share of a device's peak a training step reaches.

For a fixed number of items the operations of a step are a polynomial of second degree in its padded tokens (linear
layers and attention), so the counts of three widths give those of every step.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

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


def flops_of(counted: Sequence[tuple[int, int]], padded_tokens: Sequence[int]) -> list[float]:
    """The operations of steps by their padded tokens.

    Args:
        counted: (padded tokens, operations) of some steps, of three widths at most.
        padded_tokens: of the steps asked for.
    """
    known = dict(counted)
    x = np.array(sorted(known), dtype=np.float64)
    y = np.array([known[int(tokens)] for tokens in x], dtype=np.float64)
    fitted = np.polynomial.Polynomial.fit(x, y, deg=len(x) - 1) if len(x) > 1 else np.polynomial.Polynomial(y)
    return [float(fitted(tokens)) for tokens in padded_tokens]
