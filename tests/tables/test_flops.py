"""Operations of widths in between, and the peaks of devices."""

from __future__ import annotations

import numpy as np
import pytest

from peftbench.tables.flops import flops_of, peak_flops_per_s, telling


def test_flops_of_other_shapes_follow_from_a_few() -> None:
    def truth(shape: list[list[int]]) -> int:
        return sum(
            n * (7 * w * w + 1000 * w + 9 * t + 3 * t * t + 2 * w * t) + 5 + 70 * asked
            for n, w, t, asked in shape
        )

    generator = np.random.default_rng(0)
    steps = [[[8, *map(int, generator.integers(5, 300, 3))] for _ in range(2)] for _ in range(30)]
    few = telling(steps)
    assert len(few) == 7
    counted = [(steps[i], truth(steps[i])) for i in few]
    assert flops_of(counted, steps) == pytest.approx([truth(step) for step in steps])


def test_an_encoder_needs_three_widths_and_one_width_one() -> None:
    steps = [[[1, width]] for width in (100, 400, 400, 700, 200)]
    few = telling(steps)
    counted = [(steps[i], 7 * steps[i][0][1] ** 2 + 5) for i in few]
    assert len(few) == 3 and flops_of(counted, [[[1, 250]]]) == pytest.approx([7 * 250**2 + 5])
    assert flops_of(counted[:2], steps) is None  # which two do not tell
    assert telling([[[4, 9]]] * 3) == [0] and flops_of([([[4, 9]], 10)], [[[4, 9]]]) == pytest.approx([10])


def test_peaks_are_known_for_some_gpus_alone() -> None:
    assert peak_flops_per_s("NVIDIA H100 80GB HBM3", "bfloat16") == 989e12
    assert peak_flops_per_s("NVIDIA H100 PCIe", "bfloat16") == 756e12
    assert peak_flops_per_s("NVIDIA L40S", "bfloat16") == 362e12
    assert peak_flops_per_s("NVIDIA GeForce GTX 1060", "float32") is None
    assert peak_flops_per_s(None, "float32") is None
