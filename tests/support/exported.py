"""Runs that are exported, and adapters that the PEFT library saved."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from torch import Tensor

from peftbench.execution.prepare import Prepared
from peftbench.inspection.export import export
from peftbench.inspection.stored_runs import exportable
from peftbench.measure.parameters import save
from peftbench.models.resolve import resolve_model
from peftbench.plugins.build import task_identity
from peftbench.records.record import Record
from peftbench.records.runs import Run
from peftbench.records.store import Store

from ..conftest import TASK
from ..support.adapted import ROUNDING, adapted, train_some

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    peft = pytest.importorskip("peft")

Make = Callable[..., Run]


Of = Callable[[str], str]


@pytest.fixture
def trained(make_run: Make, tmp_path: Path) -> Callable[..., tuple[Prepared, Record]]:
    """A method trained a little, in a store at `tmp_path / "runs"`."""

    def train(
        method: str, model: str, keep: bool = True, learns: bool = True, **changes: Any
    ) -> tuple[Prepared, Record]:
        task = changes.pop("task", TASK)
        identity = {"model": resolve_model(model).revision, **task_identity(task), "method": "1"}
        run = make_run(method, model, task=task, identity=identity)
        prepared = adapted(run)
        if learns:
            train_some(prepared)
        if prepared.adaptation.settle is not None:
            prepared.adaptation.settle()
        store = Store(tmp_path / "runs")
        parameters: dict[str, int | None] = {"stored": 1, "head": 1}
        fields: dict[str, Any] = {"status": "ok", "parameters": parameters, **changes}
        with store.staging() as folder:
            if keep:
                save(prepared.adaptation.state(), folder / "adapter.safetensors")
            save(prepared.head, folder / "head.safetensors")
            store.put(Record(run, run.key, **fields), folder)
        return prepared, Record(run, run.key, **fields)

    return train


def exported(record: Record, tmp_path: Path, merged: bool = False) -> Path:
    to = tmp_path / f"out-{merged}"
    export(exportable(tmp_path / "runs", record.key[:12], to).folder, to, merged)
    return to


SMALL = {  # what defaults made for wide layers become on layers of 32
    "ADAMSS": "r=8:num_subspaces=2",
    "C3A": "block_size=16",
    "FOURIERFT": "n_frequency=100:scaling=20",
    "MISS": "r=8",
    "PSOFT": "r=8",
    "PVERA": "r=16",
    "RANDLORA": "r=8",
    "ROAD": "group_size=16",
    "SHIRA": "r=4",
    "SUPERTUNING": "sparsity=0.9",
    "VBLORA": "vector_length=16:num_vectors=16",
    "VERA": "r=16",
    "WAVEFT": "n_frequency=100",
}


def same(one: Tensor, other: Tensor, tolerance: float = ROUNDING) -> bool:
    return bool((one - other).norm() <= tolerance * other.norm())


def saved(folder: Path, checkpoint: str, kind: str, options: dict[str, Any], head: str) -> tuple[Any, Any]:
    """An adapter with numbers in it, saved by the library, and its own model."""
    base = getattr(transformers, head).from_pretrained(checkpoint).eval()
    config = peft.mapping.PEFT_TYPE_TO_CONFIG_MAPPING[peft.PeftType(kind)](**options)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = peft.get_peft_model(base, config).eval()
        generator = torch.Generator().manual_seed(0)
        for p in model.parameters():
            if p.requires_grad:
                p.data.add_(torch.randn(p.shape, generator=generator) * 0.1)
        model.save_pretrained(folder)
    return model, config
