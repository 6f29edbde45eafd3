"""The probe: what the layer says is what scikit-learn says, also where training lacks a label."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from torch import nn

from peftbench.comparison.request import Comparison
from peftbench.execution.execute import execute
from peftbench.measure.environment import capacity
from peftbench.models.pooled import MeanPooledClassifier
from peftbench.planning.plan import plan
from peftbench.plugins.registry import get
from peftbench.records.runs import ALONE


def probe(labels: int) -> Any:
    """The built-in probe on a model whose features are its inputs."""
    target: Any = get("method", "head").target
    model = SimpleNamespace(classifier=nn.Linear(3, labels), pooled=lambda input_ids: input_ids)
    return target.inject.__globals__["Probe"](model, 200)


@pytest.mark.parametrize(
    ("labels", "known"), [(2, [0, 1]), (3, [0, 1]), (4, [1, 3]), (4, [0, 1, 3]), (3, [0, 1, 2])]
)
def test_a_label_that_training_lacks_changes_no_other(labels: int, known: list[int]) -> None:
    generator = np.random.default_rng(0)
    wanted = np.repeat(known, 20)
    # Far from the origin: what the standardisation gives back to the bias is large.
    features = (
        generator.normal(500.0, 1.0, (len(wanted), 3)) + 4 * np.eye(labels, 3)[wanted] - wanted[:, None]
    )

    def batches(split: str) -> Iterable[dict[str, torch.Tensor]]:
        yield {"input_ids": torch.from_numpy(features), "labels": torch.from_numpy(wanted)}

    made = probe(labels)
    assert made(batches) == len(wanted)
    said = made.model.classifier(torch.from_numpy(features).float()).argmax(-1).numpy()
    assert (said == wanted).mean() > 0.95 and set(said) <= set(known)


def test_a_layer_that_says_something_else_is_found() -> None:
    made = probe(2)
    with pytest.raises(ArithmeticError, match="another class than the probe"):
        made.check(np.ones((10, 3)), 1 - made.model.classifier(torch.ones(10, 3)).argmax(-1).numpy())


def test_it_sees_the_items_that_the_steps_draw(make_run: Any, tmp_path: Path) -> None:
    """Below an epoch those of its seed, so that each seed runs; from an epoch on, or where asked, all in one run."""
    for method, steps, seen, seedless in (
        ("head", 3, 24, False),
        ("head:items=all", 3, 64, True),
        ("head", 8, 64, True),
    ):
        out = tmp_path / f"{method.replace(':', '-')}-{steps}"
        out.mkdir()
        run = make_run(method, steps=steps)
        record = execute(run, out, ALONE)
        assert record.training is not None and record.claims is not None
        assert (record.training["fit_items"], record.claims["seedless"]) == (seen, seedless)


def test_runs_are_planned_for_as_many_seeds_as_tell_something() -> None:
    def planned(method: str, **budget: Any) -> list[int]:
        asked = Comparison(methods=(method,), models=("tiny-encoder",), tasks=("synthetic",), baselines=False,
                           latency_grid=(), profile=False, seeds=3, **budget)  # fmt: skip
        return [item.run.seed for item in plan(asked, capacity())]

    assert planned("head", steps=4) == [0, 1, 2]
    assert planned("head", epochs=1.0) == planned("head:items=all", steps=4) == [0]


def test_features_are_as_wide_as_the_last_states() -> None:
    """OPT-350M's are narrower than those inside."""
    config = transformers.OPTConfig(
        vocab_size=9, hidden_size=8, word_embed_proj_dim=4, ffn_dim=8, num_hidden_layers=1, num_attention_heads=2
    )  # fmt: skip
    model = MeanPooledClassifier(transformers.OPTModel(config), 2)
    tokens = torch.tensor([[5, 6]])
    assert model(tokens, torch.ones_like(tokens)).logits.shape == (1, 2)
