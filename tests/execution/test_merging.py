"""Merging is tested where models read a layer's type, and where the base is bfloat16: one cast, told apart from merging."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from peftbench import Completion, Decoding, plain, swap, weight_of
from peftbench.execution import prepare
from peftbench.execution.batches import Encoded, Ragged
from peftbench.execution.execute import execute
from peftbench.execution.fingerprints import fingerprints
from peftbench.execution.generate import generate
from peftbench.execution.merging import merge, merged_where_proven
from peftbench.execution.probe import Probe, short_probe
from peftbench.execution.text_room import TextRoom
from peftbench.execution.train import accelerator_for
from peftbench.models.load import load_model
from peftbench.models.resolve import resolve_model
from peftbench.plugins.build import build_task
from peftbench.plugins.contracts import Claims
from peftbench.records.record import NOT_TESTED, PASS, Check
from peftbench.records.runs import Conditions, Run

HALF: dict[str, Any] = {"weights": "bfloat16", "dtype": "bfloat16"}


def test_a_merge_is_tested_where_the_model_reads_the_type_of_its_layer(
    make_run: Callable[..., Run], checkpoint: Callable[[str], str], tmp_path: Path
) -> None:
    """T5's feed-forward does."""
    record = execute(make_run("ia3", checkpoint("t5"), learning_rate=1e-2), tmp_path, Conditions(threads=1))
    merge = next(one for one in record.checks or () if one["name"] == "merge")
    assert merge["outcome"] == "pass", merge


@pytest.mark.parametrize(("method", "model"), [("lora", "tiny-decoder"), ("full", "tiny-encoder")])
def test_every_claim_holds_over_a_bfloat16_base(
    make_run: Callable[..., Run], method: str, model: str, tmp_path: Path
) -> None:
    run = make_run(method, model, **HALF)
    record = execute(run, tmp_path, Conditions(threads=1))
    assert record.status == "ok"
    outcomes = {one["name"]: one for one in record.checks or ()}
    assert not [one for one in outcomes.values() if one["outcome"] == "fail"], outcomes
    assert run.key != make_run(method, model, dtype="bfloat16").key
    if method == "lora":
        figures = outcomes["merge"]["figures"]
        # float32's sums are off by far less than bfloat16's eight bits of a weight.
        assert figures["merge"] < 1e-4 and 1e-3 < figures["cast"] < 0.1, figures


def test_a_model_that_writes_is_checked_over_a_bfloat16_base(
    make_run: Callable[..., Run], tmp_path: Path
) -> None:
    """Also where it reads its past from a cache; an adapter's own layers are float32."""
    rows = [{"q": f"say {word}", "a": f"{word} again"} for word in ("one", "two", "six", "ten")] * 8
    (tmp_path / "train.jsonl").write_text(
        "\n".join(json.dumps({**row, "q": f"{row['q']} {i}"}) for i, row in enumerate(rows))
    )
    task = f"jsonl:path={tmp_path / 'train.jsonl'}:prompt=q:completion=a:max_new_tokens=4"
    record = execute(make_run("adapter", "tiny-decoder", task=task, **HALF), tmp_path, Conditions(threads=1))
    outcomes = {one["name"]: one["outcome"] for one in record.checks or ()}
    assert outcomes["causal"] == "pass" and "fail" not in outcomes.values(), record.checks


def test_the_base_is_bfloat16_and_what_trains_float32(make_run: Callable[..., Run]) -> None:
    run = make_run("lora", "tiny-decoder", **HALF)
    prepared = prepare.prepare(run, prepare.objective_of(run), "cpu")
    trained = {id(p) for p in (*prepared.adaptation.params.values(), *prepared.head.values())}
    of_base = {p.dtype for p in prepared.adaptation.model.parameters() if id(p) not in trained}
    assert of_base == {torch.bfloat16}
    assert {p.dtype for p in (*prepared.adaptation.params.values(), *prepared.head.values())} == {
        torch.float32
    }
    whole = make_run("lora", "tiny-decoder")
    same = prepare.prepare(whole, prepare.objective_of(whole), "cpu")
    assert fingerprints(prepared.adaptation.params) == fingerprints(same.adaptation.params)
    assert fingerprints(prepared.head) == fingerprints(
        same.head
    )  # drawn in full, whatever the base is held in


def test_a_wrong_merge_is_found_over_a_bfloat16_base(make_run: Callable[..., Run]) -> None:
    run = make_run("lora", "tiny-decoder", **HALF)
    probe = _probe(run)
    loaded = prepare.load_base(run, prepare.objective_of(run), "cpu")
    adaptation = swap(loaded.model, "query+value", lambda base, sites: _Scaled(base, 1.0))
    wrappers: list[Any] = [wrapper for _, wrapper in adaptation.swaps.values()]
    for wrapper in wrappers:
        wrapper.gain.data += 0.25
    claims = Claims(mergeable=True)
    assert merge(adaptation, claims, [probe]).outcome == "pass"
    for wrapper in wrappers:
        wrapper.off = 1.1
    found = merge(adaptation, claims, [probe])
    # A tenth more of W (1 + gain) than what was trained, of which gain W is the change.
    assert found.outcome == "fail" and found.figures is not None
    assert found.figures["merge"] == pytest.approx(0.1 * 1.25 / 0.25, rel=0.05)


class _Scaled(nn.Module):
    def __init__(self, base: nn.Module, off: float) -> None:
        super().__init__()
        self.base, self.off = base, off
        self.gain = nn.Parameter(torch.zeros(1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.base(x)
        return out * (1 + self.gain.to(out.dtype))

    def fold(self) -> nn.Module:
        return plain(self.base, weight_of(self.base).float() * (1 + self.gain) * self.off, None)


def _probe(run: Run) -> Probe:
    task = build_task(run.task)
    objective = prepare.objective_for(run, task)
    loaded = prepare.load_base(run, objective, "meta")
    encoded = prepare.encode(run, task, loaded.tokenizer)
    pad = {"input_ids": int(loaded.tokenizer.pad_token_id)}
    found = short_probe(encoded["train"], pad, torch.device("cpu"))
    return Probe(found.items, found.pad, found.device, found.room, torch.bfloat16)


def test_a_merged_model_writes_where_merging_is_proven(
    make_run: Callable[..., Run], checkpoint: Callable[[str], str]
) -> None:
    """On a GPU; the layers are plain ones then, the texts the same, and the wrappers are back afterwards."""
    run = make_run("lora", checkpoint("llama"))
    loaded = load_model(resolve_model(run.model), Completion(), 0)
    adaptation = prepare.inject(run, loaded, "cpu").adaptation
    with torch.no_grad():
        for parameter in adaptation.params.values():
            parameter.add_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(0)) * 0.1)
    tokens = Ragged(np.arange(20) % 90 + 5, np.array([0, 8, 20]))
    sources, decoding = Encoded({"input_ids": tokens}, {}, {}), Decoding(max_new_tokens=5)
    accelerator = accelerator_for("cpu", "float32")

    def written() -> list[str]:
        return generate(loaded.model, loaded.tokenizer, sources, decoding, accelerator, TextRoom(100)).texts

    plainly = written()
    proven, cast = Check("merge", PASS), Check("merge", PASS, figures={"merge": 1e-4, "cast": 0.3})
    for check, device, merged in (
        (proven, "cuda", True),
        (proven, "cpu", False),
        (cast, "cuda", False),  # what the cast loses would be missing in the texts
        (Check("merge", NOT_TESTED), "cuda", False),
        (None, "cuda", False),
    ):
        with merged_where_proven(adaptation, check, torch.device(device)) as is_merged:
            kinds = {type(loaded.model.get_submodule(name)) for name in adaptation.swaps}
            assert is_merged is merged and (kinds == {nn.Linear}) is merged and written() == plainly
        assert all(loaded.model.get_submodule(name) is own for name, (_, own) in adaptation.swaps.items())
