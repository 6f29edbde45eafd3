"""One run from start to end: load, inject, train inside a meter, score, save. The core's straight line."""

from __future__ import annotations

import dataclasses
import datetime
import gc
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from .. import progress
from ..measure import nvml
from ..measure.bystanders import Bystanders
from ..measure.energy import EnergyMeter
from ..measure.environment import describe
from ..measure.memory import MemoryMeter
from ..measure.parameters import count, count_parameters
from ..models.adaptation import Batch
from ..models.parted import outside_whole
from ..models.precision import DTYPES, frozen_in
from ..models.roles import told_of_experts
from ..objectives import figures
from ..objectives.base import joins_items
from ..objectives.jackknife import pseudo_values
from ..plugins.build import build_task, notices_of
from ..plugins.fence import fenced
from ..records.record import Check, Record
from ..records.runs import Conditions, Run
from ..records.weights import ADAPTER, HEAD
from . import batches, constant, forgetting, learning_curve, proof, ranks, relations, reload, retention, score
from .alike import check_alike
from .before import Before
from .checkpoint import Checkpoints
from .cost import measure_costs
from .finite import check_figures
from .hidden import added_bytes
from .inference import measure_inference
from .merging import before_writing, merge, merged_where_proven
from .out_of_memory import within_memory
from .packing import room_of
from .prepare import Prepared, encode, inject, load_base, objective_for
from .probe import Probe, long_probe, outputs, short_probe
from .saved_steps import SavedSteps
from .train import accelerator_for, train
from .witness import Witness


def execute(run: Run, out: Path, conditions: Conditions) -> Record:
    """Do the run and write its files into the folder `out`; the record is returned, not written.

    Raises:
        NotSupported, Diverged, and whatever else goes wrong: the worker makes a record of it.
    """
    started, begun = _now(), time.perf_counter()
    if run.kind == "latency":
        sections = measure_inference(run)
    elif run.kind == "profile":
        sections = measure_costs(run)
    else:
        sections = _training(run, out, conditions)
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
    objective = objective_for(run, task)
    loaded = load_base(run, objective, run.device)
    model_notices = [*loaded.notices, *told_of_experts(loaded.model)]
    accelerator = accelerator_for(run.device, run.dtype)
    device = accelerator.device
    before = forgetting.before(run, loaded, accelerator)
    others_before = retention.before(run, loaded, accelerator)
    encoded = encode(run, task, loaded.tokenizer)
    pad = batches.padding(loaded.tokenizer)
    base = Before.of(loaded.model, loaded.head, objective.outputs)
    prepared = inject(run, loaded, run.device)
    base = base.moved(prepared.moved)
    adaptation, head, claims = prepared.adaptation, prepared.head, prepared.claims
    counts = count_parameters(adaptation, head, prepared.base)
    with fenced(prepared.changed, "in a forward pass"):
        prepared.prove_output()
        short, long = (
            probe(encoded["train"], pad, device).computed_in(run, prepared.output)
            for probe in (short_probe, long_probe)
        )
        start = proof.at_start(prepared, base, short)
        if (room := room_of(run, adaptation.model)) is not None and adaptation.fit is None:
            relations.check_packing(prepared, short, room)
        witness = Witness(run, prepared, base, short)
    memory = MemoryMeter(device)
    memory.mark_model(adaptation.model, added_bytes(adaptation, base.known))
    at_once = score.items_at_once(run.budget.max_length)
    scorer = score.Scorer(
        adaptation.model, objective, prepared.tokenizer, accelerator, at_once, prepared.output
    )

    def passes(split: str) -> Iterator[Batch]:
        if split == "test":
            raise ValueError(
                "fit() learns from train and may choose on validation; the test split is not for it"
            )
        if adaptation.whole_split:
            chosen = np.arange(len(encoded[split]))
        elif split != "train":  # a part of validation is enough where a part of test is
            chosen = batches.scored_items(encoded[split], run.budget.scored_items, joins_items(objective))
        else:
            chosen = batches.drawn(run, encoded[split].lengths)
        for items in batches.scoring_order(encoded[split].lengths[chosen], at_once):
            batch = batches.collate(encoded[split], chosen[items], pad, device)
            with accelerator.autocast():
                yield batch

    progress.phase("train")
    steps = run.budget.resolve_steps(len(encoded["train"]))
    gpu_before = nvml.state_now(device)
    bystanders, energy = Bystanders(device), EnergyMeter(device.type)
    points: list[dict[str, Any]] = []
    with memory.phase(), frozen_in(adaptation.model, DTYPES[run.dtype]):
        if adaptation.fit is None:
            watch, points = learning_curve.recorder(
                conditions.curve_points,
                steps,
                scorer,
                encoded["validation"],
                memory,
                energy,
                f"{run.method} seed {run.seed}",
            )
            checkpoints = Checkpoints(run, conditions, prepared, witness, points, (memory, energy))
            saved = SavedSteps(run, conditions, prepared, out, (memory, energy))
            with witness.watching(steps, len(encoded["train"])):
                seen = train(
                    prepared,
                    encoded["train"],
                    objective,
                    run,
                    pad,
                    accelerator,
                    witness.beside(saved.after(watch)),
                    checkpoints,
                )
            saved.take_over(max(seen.carried_on, default=0))
            if run.packing:  # what a pass is given are rows, not items
                rows = (ranks.mine(step, step[0]) for step in seen.shapes)
                witness.counted.expected_rows = sum(part[0] for step in rows for part in step)
            training = dataclasses.asdict(seen) | dataclasses.asdict(witness.counted)
            training["departures"] = witness.departures()
        else:
            fit_started = time.perf_counter()
            adaptation.model.eval()
            with outside_whole():
                items = adaptation.fit(passes)
            training = {"fit_s": time.perf_counter() - fit_started, "fit_items": items}
            if not adaptation.whole_split and run.budget.is_below_an_epoch(len(encoded["train"])):
                claims = dataclasses.replace(claims, seedless=False)  # the seed draws what it sees
    train_peak = ranks.peak(memory.last)
    check_alike(adaptation, head)
    accelerator.free_memory()  # it holds the optimizer's state
    training |= {
        "train_items": len(encoded["train"]),
        "steps": steps,
        **dataclasses.asdict(ranks.seen(bystanders)),
        **dataclasses.asdict(ranks.energy(energy.used(), device)),
        **({"save_every": conditions.save_every} if conditions.save_every else {}),
        **({"energy_j": None} if training.get("carried_on") else {}),  # of the steps since alone
        "gpu_before": gpu_before,
        "gpu_after": nvml.state_now(device),
    }
    with fenced(prepared.changed, "when it settles"):
        trained = proof.settled(prepared, base, start, witness, long)
    # What is kept may be less than what was there to train: triplets that went, a reparameterisation.
    counts = dataclasses.replace(counts, stored=count(adaptation.state().values()))

    writes = run.kind == "training" and objective.decoding is not None
    with fenced(prepared.changed, "in a forward pass"):
        merging = before_writing(run, adaptation, prepared.claims, writes, lambda: (long, short))
    progress.phase("score")
    energy = EnergyMeter(device.type)
    with (
        memory.phase(),
        fenced(prepared.changed, "while it scores"),
        frozen_in(adaptation.model, DTYPES[run.dtype]),
    ):
        scored = encoded[run.scored_split]
        most = run.budget.scored_items if run.kind == "training" else None
        part = batches.scored_items(scored, most, joins_items(objective))
        whole = len(part) == len(scored)
        of_part = scored if whole else scored.some(part)
        predictions = scorer.predict(of_part)
        written = None
        if run.kind != "tuning":
            with merged_where_proven(adaptation, merging, device) as merged:
                written = scorer.write(of_part, predictions)
    score_peak = ranks.peak(memory.last)
    scoring = {
        "items": len(predictions),
        "rows": len(part),  # of the split; several may be of one item, as an answer is of its question
        "of_items": len(scored),
        "graph_is_base": prepared.graph_is_base,
        **dataclasses.asdict(ranks.energy(energy.used(), device)),
        **({"writing": {"merged": merged, **written.how}} if written is not None else {}),
    }
    predictions.to_parquet(out / "predictions.parquet", index=False)
    quality = figures.figures(objective, predictions)
    check_figures(quality)
    forgot = None if before is None else before.after(adaptation.model, prepared.output)
    check_figures(forgot or {})
    retained = None if others_before is None else others_before.after(prepared, merging, out)
    pseudo_values(objective, predictions, quality).to_parquet(out / "pseudo_values.parquet", index=False)

    progress.phase("check")
    found = proof.after_training(start, trained, prepared, base, witness)
    shown = run.kind != "tuning"  # a trial's loss is all that anyone sees of it
    if shown:
        with fenced(prepared.changed, "in a forward pass"):
            found += _of_predictions(run, prepared, trained, (long, short), merging)
            hidden = proof.all_stored(prepared, base, short)
            final = outputs(adaptation.model, short)
        model_notices += relations.of_the_base(found)
        last = proof.Last(final, hidden, [*prepared.changed, *witness.changed])
    progress.phase("save")
    stored, file = adaptation.state(), out / ADAPTER
    stored_bytes = ranks.save(stored, file) if stored else 0
    ranks.save(head, out / HEAD)
    progress.phase("check")
    if shown:
        again = reload.base_again(run, loaded, prepared, found)
        loaded = base = prepared = adaptation = head = stored = None  # type: ignore[assignment]
        scorer = watch = witness = checkpoints = saved = None  # type: ignore[assignment]
        gc.collect()  # the trained model goes before another one comes
        found += reload.reloaded(run, again, out, start, last, short)
    ranks.together()  # none takes away what another one still reads
    if not shown or not (claims.exact_base or conditions.keep_weights):
        file.unlink(
            missing_ok=True
        )  # a whole model a run would fill the disk; its size is what was asked for
    return {
        "claims": dataclasses.asdict(claims),
        "parameters": {**dataclasses.asdict(counts), "stored_bytes": stored_bytes},
        "memory": {
            "train": dataclasses.asdict(train_peak) if train_peak else None,
            "score": dataclasses.asdict(score_peak) if score_peak else None,
        },
        "training": training,
        "scoring": scoring,
        "curve": points or None,
        "quality": quality,
        "constant": constant.best_constant(objective, encoded["train"], predictions),
        "forgetting": forgot,
        "retained": retained,
        "metric": objective.metric.facts,
        "metrics": [metric.facts for metric in objective.reported],
        "notices": [
            *notices_of(task),
            *batches.told(objective, encoded),
            *objective.said_of_scores(predictions),
        ]
        or None,
        "model_notices": model_notices or None,
        "checks": [dataclasses.asdict(check) for check in (start.identity, *found)],
    }


def _of_predictions(
    run: Run, prepared: Prepared, trained: proof.Trained, probes: Sequence[Probe], merging: Check | None
) -> list[Check]:
    """What predictions depend on, and whether merged ones are the same.

    Args:
        merging: what was found of merging already.
    """
    kind = torch.device(run.device).type
    computes_apart = run.dtype != run.weights  # else the probes' outputs are in it already
    in_type = torch.autocast(kind, DTYPES[run.dtype]) if computes_apart else None
    adaptation = prepared.adaptation
    looks: dict[str, Callable[[], Check | None]] = {
        "items alone": lambda: relations.each_alone(adaptation, probes[0], trained.settled),
        "causal": lambda: relations.causal(adaptation, probes[0]),
        "merge": lambda: merging or merge(adaptation, prepared.claims, probes, in_type),
    }
    found = [within_memory(name, look) for name, look in looks.items()]
    return [check for check in found if check is not None]


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="microseconds")
