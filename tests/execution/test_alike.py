"""Ranks that went apart are found."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from peftbench.errors import NotSupported
from peftbench.execution import ranks
from peftbench.execution.alike import check_alike
from peftbench.models.adaptation import Adaptation
from peftbench.records.runs import Run

from .test_ranks import in_two

Make = Callable[..., Run]


@pytest.mark.parametrize(
    ("part", "by", "found"),
    [
        ("weight", 1.0, "after training weight differs between"),
        ("running_mean", 1.0, "after training running_mean differs between"),
        ("weight", 1e-7, None),  # another order of a sum
        ("num_batches_tracked", 1.0, "after training num_batches_tracked differs between"),
        ("passing", 1.0, None),  # of a pass, and stored nowhere
        ("weight", 0.0, None),
    ],
)
def test_what_each_rank_has_whole_is_the_same(
    part: str, by: float, found: str | None, make_run: Make, tmp_path: Path
) -> None:
    def work(_: Run) -> str | None:
        model = nn.BatchNorm1d(4)
        model.register_buffer("passing", torch.ones(3), persistent=False)
        if ranks.own():
            held = getattr(model, part).data
            held.add_(by if held.is_floating_point() else int(by))
        try:
            check_alike(Adaptation(model, dict(model.named_parameters())), {})
        except NotSupported as error:
            return str(error)
        return None

    (said,) = in_two([make_run()], tmp_path, work)
    assert said is None if found is None else said.startswith(found)
