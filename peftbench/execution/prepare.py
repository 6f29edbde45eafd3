"""A model with a method in it: built from a run's words, the rest frozen, ready to be trained or timed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from .. import spec
from ..errors import Mistaken, NotSupported, UsageError
from ..models.adaptation import Adaptation, layers_at_home
from ..models.graph import Graph, graph_of, is_the_base
from ..models.load import Loaded, decoder_start, is_for_host, load_model
from ..models.output_layer import WHOLE, OutputLayer, output_layer_of
from ..models.precision import DTYPES, checkpoint_activations
from ..models.resolve import resolve_model
from ..models.roles import sites
from ..models.streams import init_streams
from ..objectives.base import Objective
from ..plugins import loader, registry
from ..plugins.build import build_method, build_task, files_of
from ..plugins.contracts import Claims, Task
from ..plugins.fence import fenced
from ..records.runs import ADAMW, FSDP, Run
from . import batches, ranks
from .fingerprints import some
from .hidden import kept_by
from .left_over import Modules
from .shard import has_hooks, shard


@dataclass
class Prepared:
    """A model with a method in it, and what it takes to feed it."""

    adaptation: Adaptation
    head: dict[str, nn.Parameter]
    tokenizer: Any
    claims: Claims
    base: list[nn.Parameter]  # the parameters before the method came
    changed: list[str]  # settings and generators of the process that the method touched, put back since
    graph_is_base: bool  # at inference it is the base with other numbers in it
    graph: Graph  # of the model before the method came
    output: OutputLayer  # of a model that writes
    moved: dict[
        int, nn.Parameter
    ]  # by number, what stands in the places of the base's parameters since ranks share it

    def prove_output(self) -> None:
        """With the method in it, too, the output layer is apart where that changes no bit."""
        if self.output != WHOLE:
            self.output = output_layer_of(self.adaptation.model)


def objective_of(run: Run) -> Objective | None:
    """What the run's task asks of the model; None where there is no task and the model stands for itself."""
    return objective_for(run, build_task(run.task)) if run.task else None


def objective_for(run: Run, task: Task) -> Objective:
    """What a task asks of the run's model: of an encoder-decoder to write in its decoder."""
    return task.objective.with_decoder_start(decoder_start(resolve_model(run.model)))


def check_identity(run: Run) -> None:
    """Whether the model's files, and those that a method starts from, are what the run was planned with, as its key says.

    Raises:
        UsageError: they are others now.
    """
    if resolve_model(run.model).revision != run.identity["model"]:
        raise UsageError(
            f"the files of model {run.model!r} changed since the run was planned; type the command again"
        )
    for method in map(str, spec.parse_list(run.method)):
        if files_of(method) not in run.identity["method"]:
            raise UsageError(
                f"the adapter that {method} starts from changed since the run was planned; type the command again"
            )


def prepare(run: Run, objective: Objective | None, device: str) -> Prepared:
    """Load the model, let the method in, freeze the rest.

    Raises:
        NotSupported: the method can't serve this model.
    """
    return inject(run, load_base(run, objective, device), device)


def load_base(run: Run, objective: Objective | None, device: str) -> Loaded:
    """The run's model as its checkpoint and its seed make it; without weights on the "meta" device.

    A large one is on the host until a method is in it, unless the model itself is to be run before.
    """
    source, weights = resolve_model(run.model), DTYPES[run.weights]
    itself = run.kind == "latency" or run.looks_first
    on_host = not itself and (is_for_host(source, weights, device) or (shares_base(run) and device == "cuda"))
    place = "cpu" if on_host else device
    loaded = load_model(source, objective, run.seed, place, run.attention, weights)
    loaded.on_host = on_host
    return loaded


def inject(run: Run, loaded: Loaded, device: str) -> Prepared:
    """Let the run's method into a model, freeze the rest and move it to its device.

    Raises:
        NotSupported: the method can't serve this model.
    """
    if device != "meta" and not loaded.on_host:
        loaded.model.to(device)  # parts that another method set aside
    method, declared = build_method(run.method)
    base, modules = list(loaded.model.parameters()), Modules(loaded.model, loaded.head)
    # The same model always gets the same streams, whatever device it then goes to.
    changed = list(loader.disturbances_of(registry.get("method", spec.parse(run.method).name).path))
    before = graph_of(loaded.model)
    blocks = [site.module for site in sites(loaded.model, "block")] if shares_base(run) else []
    home = (
        layers_at_home(torch.device(device), for_good=not shares_base(run))
        if loaded.on_host
        else nullcontext()
    )
    with fenced(changed, "in inject()"), init_streams(run.seed, run.method), home:
        adaptation = method.inject(loaded.model)
    _refuse_mistakes(adaptation, modules, base)
    head = loaded.head if adaptation.head is None else adaptation.head
    of_head = {id(p) for p in head.values()}
    adaptation.params = {name: p for name, p in adaptation.params.items() if id(p) not in of_head}
    if strange := sorted(adaptation.groups.keys() - adaptation.params.keys()):
        raise Mistaken(
            f"its groups name {some(strange)}, which it does not train; use the names of its params"
        )
    freeze_all_but(adaptation, head)
    same = is_the_base(before, adaptation)
    adaptation.model.eval()  # what a method adds begins in training mode
    if run.checkpointing and run.kind != "latency":  # which is inference, without a backward pass
        checkpoint_activations(adaptation.model)
    moved: dict[int, nn.Parameter] = {}
    if device != "meta":
        if shares_base(run):
            moved = _shared(run, adaptation, head, base, blocks, device)
            base = [moved.get(id(p), p) for p in base]
        else:
            adaptation.to(device)
        if run.kind != "latency":  # in which the base itself takes turns
            adaptation.set_aside()
    return Prepared(
        adaptation, head, loaded.tokenizer, declared.claims, base, changed, same, before, loaded.output, moved
    )


def shares_base(run: Run) -> bool:
    """Whether this process is one of several that hold parts of the base's weights."""
    return ranks.count() > 1 and run.parallel == FSDP


def _shared(
    run: Run, adaptation: Adaptation, head: Mapping[str, nn.Parameter], base: Iterable[nn.Parameter], blocks: Sequence[nn.Module], device: str
) -> dict[int, nn.Parameter]:  # fmt: skip
    """Let the ranks share the base; what trains of it is found again by name. What the method added, and the head, each rank has.

    Raises:
        NotSupported: the run's optimizer, or the method, can't do with a tensor of which each rank has a part.
    """
    base = list(base)  # whose numbers stay theirs as long as they are there
    of_base = {id(p) for p in base} - {id(p) for p in head.values()}
    if run.optimizer != ADAMW and any(id(p) in of_base for p in adaptation.params.values()):
        raise NotSupported(
            f"--optimizer {run.optimizer} can't train weights of which each process holds a part; leave it out, or add --parallel ddp"
        )
    alike = {id(p) for p in (*adaptation.params.values(), *head.values())} - of_base
    hooked = [n for n, p in adaptation.model.named_parameters() if id(p) in of_base and has_hooks(p)]
    moved = shard(adaptation.model, blocks, alike, torch.device(device))
    adaptation.params = {name: moved.get(id(p), p) for name, p in adaptation.params.items()}
    stale = [way for way, found in kept_by(adaptation).items() if id(found) in of_base & moved.keys()]
    for strange, does in ((hooked, "has hooks"), (stale, "is kept beside the model")):
        if strange:
            raise NotSupported(
                f"{some(strange)}, of the base's weights, {does}, and with --parallel fsdp each process holds a part of these alone; add "
                "--parallel ddp"
            )
    adaptation.find_frozen_again()
    return moved


def _refuse_mistakes(adaptation: Any, modules: Modules, base: Iterable[nn.Parameter]) -> None:
    """What can be seen at once of an `inject()` that does not say all that it did, or says what can't be done.

    Args:
        base: the model's own parameters, which ask for no gradient until a method declares them.

    Raises:
        Mistaken: it did not.
    """
    if not isinstance(adaptation, Adaptation):
        raise Mistaken(
            f"its inject() returned {type(adaptation).__name__}, not an Adaptation; return what swap(...) or select(...) gives"
        )
    if not adaptation.params and adaptation.fit is None:
        raise Mistaken(
            "the method left nothing to train: make an nn.Parameter in the layer that swap() builds, or select() some of the model"
        )
    if len({id(p) for p in adaptation.params.values()}) < len(adaptation.params):
        raise Mistaken("its params hold one tensor under two names; name it once")
    own = {id(p) for p in base}
    added = {name: p for name, p in adaptation.params.items() if id(p) not in own}
    if still := sorted(name for name, p in added.items() if not p.requires_grad):
        raise Mistaken(
            f"{some(still)} would train, as every parameter that a method makes, and asks for no gradient; make what stays as it is a "
            "buffer (register_buffer)"
        )
    if twofold := sorted(name for name, p in added.items() if p.is_complex()):
        raise Mistaken(
            f"{some(twofold)} is complex, and what trains is float32; train its two parts and join them by torch.view_as_complex"
        )
    if left := modules.left_over(adaptation):
        raise Mistaken(
            f"after its swaps are undone, {some(left)} is still changed, so the base can't be restored; change modules with swap(...), "
            "or give a toggle that removes every change"
        )


def freeze_all_but(adaptation: Adaptation, head: dict[str, nn.Parameter]) -> None:
    """Freeze by identity everything that neither the method nor the head declares; what trains is float32."""
    trained = {id(p) for p in (*adaptation.params.values(), *head.values())}
    for parameter in adaptation.model.parameters():
        parameter.requires_grad_(id(parameter) in trained)
        if id(parameter) in trained:
            parameter.data = parameter.data.float()


def encode(run: Run, task: Task, tokenizer: Any) -> dict[str, batches.Encoded]:
    """The run's tokenised splits, from the cache where they are in it; of the training split what the budget gives.

    Raises:
        NotSupported: the budget asks for more training items than there are.
    """
    identity = run.identity
    key = batches.cache_key(run.task, identity["task"], identity["data"], run.model, identity["model"])
    objective, length = objective_for(run, task), run.budget.max_length
    encoded = batches.encode_splits(run.task, objective, task.splits, tokenizer, length, key)
    wanted = run.budget.train_items
    if wanted is None:
        return encoded
    if wanted > len(encoded["train"]):
        raise NotSupported(
            f"--train-size {wanted:,}: the training split of {run.task} has {len(encoded['train']):,} items; ask for "
            "fewer, or all"
        )
    return {**encoded, "train": batches.first_of_shuffled(encoded["train"], wanted)}
