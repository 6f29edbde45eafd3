"""Whether the saved file is what was trained, and the seed what decides the start: injected again, and loaded into that.

No second base is read where the one that is there is proven to be as it was.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from safetensors.torch import load_file

from ..models.graph import graph_of
from ..models.load import Loaded
from ..records.record import FAIL, PASS, Check
from ..records.runs import Run
from ..records.weights import ADAPTER, HEAD
from . import proof
from .fingerprints import fingerprints
from .out_of_memory import is_out_of_memory, not_tested
from .prepare import Prepared, inject, load_base, objective_of, shares_base
from .probe import Probe, outputs

NAME = "save and load"


def base_again(run: Run, loaded: Loaded, prepared: Prepared, found: Sequence[Check]) -> Loaded | None:
    """The model without the method, where that is the base, its weights bit for bit; None where it has to be read anew.

    Args:
        loaded: the model before the method came.
        found: the checks so far.
    """
    adaptation = prepared.adaptation
    if shares_base(run):  # what is shared stays so
        return None
    unchanged = any(check.name == "base unchanged" and check.outcome == PASS for check in found)
    if not unchanged or adaptation.toggle is not None or adaptation.head is not None:
        return None
    adaptation.remove()
    return loaded if graph_of(loaded.model) == prepared.graph else None


def reloaded(
    run: Run, loaded: Loaded | None, out: Path, start: proof.Start, last: proof.Last, probe: Probe
) -> list[Check]:
    """Inject again with the same seed and with another one, and load into that what was saved.

    Args:
        loaded: the base that is there; None: it is read anew.
    """
    try:
        return _reloaded(run, loaded, out, start, last, probe)
    except Exception as error:
        if not is_out_of_memory(error) or shares_base(run):
            raise
        return [not_tested(name) for name in ("settings", "seed", NAME)]


def _reloaded(
    run: Run, loaded: Loaded | None, out: Path, start: proof.Start, last: proof.Last, probe: Probe
) -> list[Check]:
    if loaded is None:
        loaded = load_base(run, objective_of(run), run.device)
    its_own = {name for name, _ in loaded.model.named_parameters()}
    again = inject(run, loaded, run.device)
    repeated = fingerprints({**again.adaptation.params, **again.adaptation.frozen})
    changed = [*last.changed, *again.changed]
    again.adaptation.remove()
    if shares_base(run) or not its_own <= {name for name, _ in loaded.model.named_parameters()}:
        # What ranks share is shared once. A method that switches off may leave parameters under other names, as torch's
        # parametrizations do.
        del again
        loaded = load_base(run, objective_of(run), run.device)
    other = inject(dataclasses.replace(run, seed=run.seed + 1), loaded, run.device)
    adaptation = other.adaptation
    differing = fingerprints({**adaptation.params, **adaptation.frozen})
    found = [
        proof.left_alone([*changed, *other.changed]),
        proof.seeding(other, start.init, repeated, differing),
    ]
    file = out / ADAPTER
    try:
        adaptation.load(load_file(file, device=run.device) if file.is_file() else {})
        saved_head = load_file(out / HEAD, device=run.device)
        for name, parameter in other.head.items():
            parameter.data.copy_(saved_head[name])
        found.append(proof.reloaded(last, outputs(adaptation.model, probe), start.outputs))
    except Exception as error:
        if is_out_of_memory(error) or shares_base(run):  # of which all ranks must do the same
            raise
        said = " ".join(f"loading raises {type(error).__name__}: {error}".split())[:200]
        found.append(Check(NAME, FAIL, said))
    return found
