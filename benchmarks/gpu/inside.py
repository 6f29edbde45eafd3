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
    model: Any = prepared.adaptation.model

    def timed(write_too: bool) -> tuple[float, list[str]]:
        started = time.perf_counter()
        with frozen_in(model, DTYPES[run.dtype]):
            scored = scorer.predict(split)
            if write_too:  # unmerged
                scorer.write(split, scored)
        written = list(scored["prediction"]) if write_too else []
        return time.perf_counter() - started, written

    timed(write_too=False)
    taken = {"likelihoods": timed(write_too=False)[0]}
    taken["likelihoods and texts"], written = timed(write_too=True)
    model.generate = partial(model.generate, cache_implementation="static", disable_compile=True)
    try:
        taken["likelihoods and texts, static cache"], again = timed(write_too=True)
        said = f"{sum(map(str.__eq__, written, again))} are the same with a static cache"
    except RuntimeError as error:  # keys and values of two types, as autocast over a float32 base gives
        said = f"with a static cache: {' '.join(str(error).split())[:150]}"
    assert objective.decoding is not None
    write(
        {
            "size": size, "length": shape[1], "items": len(written), "new_tokens": objective.decoding.max_new_tokens, "seconds": taken,
            "static": said,
        }
    )  # fmt: skip
