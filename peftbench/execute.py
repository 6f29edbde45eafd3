"""One run from start to end: load, inject, train inside a meter, score, save. The core's straight line."""

from __future__ import annotations

import dataclasses
import datetime
import gc
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from safetensors.torch import load_file
from torch import nn

from . import checks, data, models, progress, registry, spec
from .adaptation import Adaptation, Batch
from .declare import Claims, Method, Task
from .environment import describe
from .errors import NotSupported
from .measure.bystanders import Bystanders
from .measure.latency import measure_latency
from .measure.memory import MemoryMeter
from .measure.parameters import count_parameters, save
from .objectives import Objective
from .pseudo import pseudo_values
from .record import Record
from .runs import Conditions, Run
from .streams import init_streams
from .train import accelerator_for, train

NOTHING_TO_TRAIN = "the method left nothing to train"
SCORING_BATCH_TOKENS = 4096  # tokens of a scoring batch: wide enough to fill the cores, small beside training


@dataclass
class Prepared:
    """A model with a method in it, and what it takes to feed it."""

    adaptation: Adaptation
    head: dict[str, nn.Parameter]
    tokenizer: Any
    claims: Claims
    base: list[nn.Parameter]  # the parameters before the method came


def build_method(text: str) -> tuple[Method, Claims]:
    """The method that a SPEC names, with its fields set."""
    parsed = spec.parse(text)
    entry = registry.get("method", parsed.name)
    instance: Method = spec.build(parsed, entry.target, "method")
    return instance, entry.declared.claims


def build_task(text: str) -> Task:
    """The task that a SPEC names, with its fields set."""
    parsed = spec.parse(text)
    task: Task = spec.build(parsed, registry.get("task", parsed.name).target, "task")
    return task


def prepare(run: Run, objective: Objective, device: str) -> Prepared:
    """Load the model, let the method in, freeze the rest.

    Raises:
        NotSupported: the method can't serve this model.
    """
    return inject(run, load_base(run, objective, device), device)


def load_base(run: Run, objective: Objective, device: str) -> models.Loaded:
    """The run's model as its checkpoint and its seed make it; without weights on the "meta" device."""
    return models.load(
        models.resolve(run.model), objective, run.seed, device="meta" if device == "meta" else "cpu"
    )


def inject(run: Run, loaded: models.Loaded, device: str) -> Prepared:
    """Let the run's method into a model, freeze the rest and move it to its device.

    Raises:
        NotSupported: the method can't serve this model.
    """
    method, claims = build_method(run.method)
    base = list(loaded.model.parameters())
    # The same model always gets the same streams, whatever device it then goes to.
    with init_streams(run.seed, run.method):
        adaptation = method.inject(loaded.model)
    head = loaded.head if adaptation.head is None else adaptation.head
    of_head = {id(p) for p in head.values()}
    if not adaptation.params and adaptation.fit is None:
        raise NotSupported(NOTHING_TO_TRAIN)
    adaptation.params = {name: p for name, p in adaptation.params.items() if id(p) not in of_head}
    freeze_all_but(adaptation, head)
    adaptation.model.eval()  # what a method adds begins in training mode
    if device != "meta":
        adaptation.model.to(device)
    return Prepared(adaptation, head, loaded.tokenizer, claims, base)


def freeze_all_but(adaptation: Adaptation, head: dict[str, nn.Parameter]) -> None:
    """Freeze by identity everything that neither the method nor the head declares; what trains is float32."""
    trained = {id(p) for p in (*adaptation.params.values(), *head.values())}
    for parameter in adaptation.model.parameters():
        parameter.requires_grad_(id(parameter) in trained)
        if id(parameter) in trained:
            parameter.data = parameter.data.float()


def execute(run: Run, out: Path, conditions: Conditions) -> Record:
    """Do the run and write its files into the folder `out`; the record is returned, not written.

    Raises:
        NotSupported, Diverged, and whatever else goes wrong: the worker makes a record of it.
    """
    started, begun = _now(), time.perf_counter()
    sections = _latency(run) if run.kind == "latency" else _training(run, out, conditions)
    return Record(
        run=run,
        key=run.key,
        status="ok",
        environment=describe(run.device, conditions),
        started_at=started,
        wall_s=time.perf_counter() - begun,
        **sections,
    )


def _training(run: Run, out: Path, conditions: Conditions) -> dict[str, Any]:
    progress.phase("load")
    task = build_task(run.task)
    objective = task.objective
    loaded = load_base(run, objective, run.device)
    tensors = checks.Tensors(loaded.model, without=loaded.head.values())
    base = checks.fingerprints(tensors.now())
    prepared = inject(run, loaded, run.device)
    adaptation, head, claims = prepared.adaptation, prepared.head, prepared.claims
    counts = count_parameters(adaptation, head, prepared.base)
    encoded = encode(run, task, prepared.tokenizer)
    pad = {"input_ids": int(prepared.tokenizer.pad_token_id)}
    accelerator = accelerator_for(run.device, run.dtype)
    device = accelerator.device
    probe = _probe(encoded["train"], pad, device)
    start = checks.at_start(adaptation, claims, head, tensors, base, probe)
    meter = MemoryMeter(device)
    meter.mark_model(adaptation.model)

    def batches(split: str) -> Iterator[Batch]:
        width = max(1, SCORING_BATCH_TOKENS // run.budget.max_length)
        for items in data.scoring_order(encoded[split].lengths, width):
            batch = data.collate(encoded[split], items, pad, device)
            with accelerator.autocast():
                yield batch

    progress.phase("train")
    bystanders = Bystanders(device)
    with meter.phase():
        if adaptation.fit is None:
            seen = train(adaptation, head, encoded["train"], objective, run, pad, accelerator)
            training = dataclasses.asdict(seen)
        else:
            fit_started = time.perf_counter()
            adaptation.model.eval()
            items = adaptation.fit(batches)
            training = {"fit_s": time.perf_counter() - fit_started, "fit_items": items}
    train_peak = meter.last
    training |= {
        "train_items": len(encoded["train"]),
        "steps": run.budget.resolve_steps(len(encoded["train"])),
        **dataclasses.asdict(bystanders.seen()),
    }
    if adaptation.settle is not None:
        adaptation.settle()

    progress.phase("score")
    with meter.phase():
        width = max(1, SCORING_BATCH_TOKENS // run.budget.max_length)
        split = encoded[run.scored_split]
        predictions = score(adaptation.model, split, objective, pad, accelerator, width)
    predictions.to_parquet(out / "predictions.parquet", index=False)
    quality = objective.score(predictions["prediction"].to_numpy(), predictions["reference"].to_numpy())
    quality["nll"] = float(predictions["nll"].mean())
    pseudo_values(objective, predictions, quality).to_parquet(out / "pseudo_values.parquet", index=False)

    progress.phase("check")
    found, trained = checks.after_training(start, adaptation, claims, head, tensors, probe)
    progress.phase("save")
    stored, file = adaptation.state(), out / "adapter.safetensors"
    stored_bytes = save(stored, file) if stored else 0
    save(head, out / "head.safetensors")
    progress.phase("check")
    loaded = tensors = prepared = adaptation = head = stored = None  # type: ignore[assignment]
    gc.collect()  # the trained model goes before another one comes
    found += _reloaded(run, objective, out, start, trained, probe)
    if run.kind == "tuning" or not (claims.exact_base or conditions.keep_weights):
        file.unlink(
            missing_ok=True
        )  # a whole model a run would fill the disk; its size is what was asked for
    return {
        "claims": dataclasses.asdict(claims),
        "parameters": {**dataclasses.asdict(counts), "stored_bytes": stored_bytes},
        "memory": {
            "train": dataclasses.asdict(train_peak) if train_peak else None,
            "score": dataclasses.asdict(meter.last) if meter.last else None,
        },
        "training": training,
        "quality": quality,
        "metric": dataclasses.asdict(objective.metric),
        "checks": [dataclasses.asdict(check) for check in (start.identity, *found)],
    }


def _probe(split: data.Encoded, pad: dict[str, int], device: torch.device) -> Batch:
    """A batch of items of middling length, for the checks."""
    order = np.argsort(split.lengths, kind="stable")
    middle = max(0, len(order) // 2 - checks.PROBE_ITEMS // 2)
    batch = data.collate(split, order[middle : middle + checks.PROBE_ITEMS], pad, device)
    del batch["labels"]
    return batch


def _reloaded(
    run: Run, objective: Objective, out: Path, start: checks.Start, trained: torch.Tensor, probe: Batch
) -> list[checks.Check]:
    """Inject again with the same seed and with another one, and load into that what was saved."""
    loaded = load_base(run, objective, run.device)
    again = inject(run, loaded, run.device).adaptation
    repeated = checks.fingerprints({**again.params, **again.frozen})
    again.remove()
    other = inject(dataclasses.replace(run, seed=run.seed + 1), loaded, run.device)
    adaptation = other.adaptation
    differing = checks.fingerprints({**adaptation.params, **adaptation.frozen})
    found = [checks.seeding(other.claims, start.init, repeated, differing)]
    file = out / "adapter.safetensors"
    try:
        adaptation.load(load_file(file, device=run.device) if file.is_file() else {})
        saved_head = load_file(out / "head.safetensors", device=run.device)
        for name, parameter in other.head.items():
            parameter.data.copy_(saved_head[name])
        found.append(checks.reloaded(trained, checks.outputs(adaptation.model, probe), start.outputs))
    except Exception as error:  # noqa: BLE001  what can't be loaded is what this check is for; the run is good
        said = " ".join(f"loading raises {type(error).__name__}: {error}".split())[:200]
        found.append(checks.Check("save and load", checks.FAIL, said))
    return found


def encode(run: Run, task: Task, tokenizer: Any) -> dict[str, data.Encoded]:
    """The run's tokenised splits, from the cache where they are in it."""
    identity = run.identity
    key = data.cache_key(run.task, identity["task"], identity["data"], run.model, identity["model"])
    return data.encode(run.task, task.objective, task.splits, tokenizer, run.budget.max_length, key)


@torch.inference_mode()
def score(
    model: nn.Module,
    split: data.Encoded,
    objective: Objective,
    pad: dict[str, int],
    accelerator: Any,
    width: int,
) -> pd.DataFrame:
    """Predictions for every item of a split, one row an item in the split's order."""
    columns: dict[str, list[npt.NDArray[Any]]] = {"item": []}
    model.eval()
    for items in data.scoring_order(split.lengths, width):
        batch = data.collate(split, items, pad, accelerator.device)
        labels = batch.pop("labels")
        with accelerator.autocast():
            logits = model(**batch).logits
        columns["item"].append(items)
        for name, values in objective.predict(logits, {**batch, "labels": labels}).items():
            columns.setdefault(name, []).append(values)
    frame = pd.DataFrame({name: np.concatenate(parts) for name, parts in columns.items()})
    frame["group"] = split.groups[frame["item"].to_numpy()]
    return frame.sort_values("item", ignore_index=True)


def _latency(run: Run) -> dict[str, Any]:
    """Latency depends on shapes, not on what the weights learned: a fresh process with the untrained method serves."""
    progress.phase("load")
    objective = build_task(run.task).objective
    prepared = prepare(run, objective, run.device)
    adaptation = prepared.adaptation
    if adaptation.settle is not None:
        adaptation.settle()
    adaptation.model.eval()
    progress.phase("latency")
    cells = measure_latency(adaptation, run.grid, torch.device(run.device), watch=progress.step)
    return {
        "claims": dataclasses.asdict(prepared.claims),
        "latency": [dataclasses.asdict(cell) for cell in cells],
    }


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
