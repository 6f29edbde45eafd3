"""`peftbench.testing`: what the test of a stranger's method stands on."""

from __future__ import annotations

from pathlib import Path

import pytest

from peftbench.testing import adapt, assert_claims, trained_numbers

BROKEN = '''
from dataclasses import dataclass
from peftbench import Claims, Preset, method
from .lora import LoRA

@method("claims-too-much", claims=Claims(seedless=True, mergeable=True, exact_base=True, identity_at_init=True), preset=Preset(1e-3, source="a test"))
@dataclass(frozen=True)
class ClaimsTooMuch(LoRA):
    """Its base moves."""
    def inject(self, model):
        adaptation = super().inject(model)
        base = next(iter(adaptation.swaps.values()))[0]
        adaptation.after_step = lambda step, steps: base.weight.data.add_(1.0)
        return adaptation
'''


def test_a_method_that_keeps_its_claims_passes(tmp_path: Path) -> None:
    assert_claims("lora:rank=2", tmp_path)
    assert trained_numbers("lora:rank=2") == 2 * 2 * 2 * (32 + 32)
    assert len(adapt("lora", "tiny-fused").swaps) == 2


def test_one_that_does_not_says_what_was_seen(tmp_path: Path) -> None:
    file = tmp_path / "claims_too_much.py"
    file.write_text(BROKEN)
    with pytest.raises(AssertionError, match="fail +base unchanged"):
        assert_claims(file, tmp_path)
