"""Operations of widths in between, and the peaks of devices."""

from __future__ import annotations

import pytest

from peftbench.tables.flops import flops_of, peak_flops_per_s


def test_flops_of_other_widths_follow_from_three() -> None:
    def truth(tokens: int) -> int:
        return 7 * tokens * tokens + 1000 * tokens + 5

    counted = [(tokens, truth(tokens)) for tokens in (100, 400, 700)]
    assert flops_of(counted, [100, 250, 900]) == pytest.approx([truth(n) for n in (100, 250, 900)])
    assert flops_of(counted[:1], [100]) == [truth(100)]


def test_peaks_are_known_for_some_gpus_alone() -> None:
    assert peak_flops_per_s("NVIDIA H100 80GB HBM3", "bfloat16") == 989e12
    assert peak_flops_per_s("NVIDIA H100 PCIe", "bfloat16") == 756e12
    assert peak_flops_per_s("NVIDIA L40S", "bfloat16") == 362e12
    assert peak_flops_per_s("NVIDIA GeForce GTX 1060", "float32") is None
    assert peak_flops_per_s(None, "float32") is None
