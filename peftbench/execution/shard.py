"""A model whose base the ranks share: each holds a part of every tensor, and a block is whole for as long as it computes.

Torch's FSDP2 (`fully_shard`), a group for each block and one for the rest. What a method adds is small by its nature, so each rank has
all of it: there a method finds its own tensors whole, in whatever it does beside a forward pass. What it trains of the base itself is
shared like the rest. Codes of a quantised base are buffers; here they become parameters, which are shared.
"""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard

from ..models.parted import is_shared_from_now_on
from . import ranks

LEAST_BYTES = 4_096  # of a buffer that is shared; tables and scales of whole tensors are smaller


def shard(
    model: nn.Module, blocks: Sequence[nn.Module], alike: set[int], device: torch.device
) -> dict[int, nn.Parameter]:
    """Share a model with a method in it, on whatever device it is; it ends on `device`.

    Args:
        blocks: of the base.
        alike: numbers of the parameters that each rank has all of.

    Returns:
        By the number of each parameter of before, what stands in its place.
    """
    # Of what a model gives; nothing here writes into it. For the rest of the process, which is one run's.
    warnings.filterwarnings("ignore", "FSDP2-wrapped module .* returned a view tensor", UserWarning)
    _buffers_to_parameters(model)
    before = dict(_places(model.modules()))
    in_blocks = {module for block in blocks for module in block.modules()}
    groups = [*(block.modules() for block in blocks), (m for m in model.modules() if m not in in_blocks)]
    uses = Counter(number for group in groups for number in {id(p) for _, p in _places(group)})
    # A group owns its parameters: what stands in two of them is whole on each rank.
    kept = {p for p in model.parameters() if id(p) in alike or uses[id(p)] > 1}
    for parameter in kept:
        parameter.data = parameter.data.to(device)
    mesh = init_device_mesh(device.type, (ranks.count(),))
    for part in (*blocks, model):
        fully_shard(part, mesh=mesh, ignored_params=kept)
    assert isinstance(model, FSDPModule)
    is_shared_from_now_on(model)
    for module in model.modules():
        if isinstance(module, FSDPModule):
            module.set_gradient_divide_factor(1.0)  # each rank's loss is its share of the batch's already
            module.set_force_sum_reduction_for_comms(True)
    moved = {id(old): module._parameters[name] for (module, name), old in before.items()}
    for module in model.modules():  # what a wrapper shows of its layer, without owning it
        shown = vars(module).get("weight")
        if isinstance(shown, nn.Parameter) and id(shown) in moved:
            vars(module)["weight"] = moved[id(shown)]
    return {number: p for number, p in moved.items() if p is not None and id(p) != number}


def has_hooks(parameter: nn.Parameter) -> bool:
    """Whether something is called with its gradients; what stands in its place has none of that."""
    return bool(parameter._backward_hooks) or bool(getattr(parameter, "_post_accumulate_grad_hooks", None))


def _buffers_to_parameters(model: nn.Module) -> None:
    """Make parameters of the buffers that are worth sharing: those that are stored, of some size, and of one module alone."""
    uses = Counter(id(buffer) for module in model.modules() for buffer in module._buffers.values())
    for module in model.modules():
        for name, buffer in list(module._buffers.items()):
            if buffer is not None and uses[id(buffer)] == 1 and _is_worth_it(module, name, buffer):
                del module._buffers[name]
                module.register_parameter(name, nn.Parameter(buffer, requires_grad=False))


def _is_worth_it(module: nn.Module, name: str, buffer: Tensor) -> bool:
    stored = name not in module._non_persistent_buffers_set
    return stored and buffer.ndim > 0 and buffer.numel() * buffer.element_size() >= LEAST_BYTES


def _places(modules: Iterable[nn.Module]) -> Iterator[tuple[tuple[nn.Module, str], nn.Parameter]]:
    """Where each parameter stands."""
    for module in modules:
        yield from (((module, name), p) for name, p in module._parameters.items() if p is not None)
