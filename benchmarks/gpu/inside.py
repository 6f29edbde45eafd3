"""Part `memory`: the parts that memory is made of against the allocator's peak; part `writing`: texts a second."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from peftbench.execution.cost import measure_costs
from peftbench.execution.prepare import encode, inject, objective_for
from peftbench.execution.score import Scorer, items_at_once
from peftbench.execution.train import accelerator_for
from peftbench.models.precision import DTYPES, frozen_in
from peftbench.plugins.build import build_task

from .checkpoints import checkpoint, texts
from .subjects import REFUSALS, ground

STATIC = "likelihoods and texts, static cache"


def memory(
    size: str,
    methods: tuple[str, ...],
    shape: tuple[int, int],
    work: Path,
    write: Callable[[dict[str, Any]], None],
) -> None:
    """Of each method the parts of a step's peak, counted, and what the allocator saw."""
    # The base is let go: each cost run loads its own.
    runs = ground(methods, str(checkpoint(size, work)), texts(shape[1], 200, 4, work), shape, 4)[1]
    found = {}
    for method, run in runs.items():
        try:
            profile = measure_costs(dataclasses.replace(run, kind="profile"))["profile"]
        except REFUSALS as error:
            found[method] = {"refused": f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"}
            continue
        found[method] = profile["memory_by_kind"]
        write({"size": size, "batch": shape[0], "length": shape[1], "methods": found})
    write({"size": size, "batch": shape[0], "length": shape[1], "methods": found})


def writing(
    size: str, shape: tuple[int, int], items: int, work: Path, write: Callable[[dict[str, Any]], None]
) -> None:
    """Seconds that scoring takes with and without writing, on items of one length, and with a cache that has its size from the start."""
    on, runs = ground(("lora",), str(checkpoint(size, work)), texts(shape[1], 5 * items, 64, work), shape, 4)
    (run,) = runs.values()
    task = build_task(run.task)
    prepared = inject(run, on.loaded, run.device)
    prepared.prove_output()
    split = encode(run, task, prepared.tokenizer)["test"]
    objective = objective_for(run, task)
    scorer = Scorer(
        prepared.adaptation.model,
        objective,
        prepared.tokenizer,
        accelerator_for(run.device, run.dtype),
        items_at_once(shape[1]),
        prepared.output,
    )
    taken, texts_by = {}, dict[str, list[str]]()
    model: Any = prepared.adaptation.model
    grows = model.generate
    for name, write_too in (
        ("warm-up", False),
        ("likelihoods", False),
        ("likelihoods and texts", True),
        (STATIC, True),
    ):
        if name == STATIC:
            model.generate = partial(grows, cache_implementation="static", disable_compile=True)
        started = time.perf_counter()
        with frozen_in(prepared.adaptation.model, DTYPES[run.dtype]):
            scored = scorer.predict(split)
            if write_too:  # unmerged
                scorer.write(split, scored)
                texts_by[name] = list(scored["prediction"])
        taken[name] = time.perf_counter() - started
    assert objective.decoding is not None
    write(
        {
            "size": size, "length": shape[1], "items": len(scored), "new_tokens": objective.decoding.max_new_tokens, "seconds": taken,
            "same_texts": sum(map(str.__eq__, *texts_by.values())),
        }
    )  # fmt: skip
