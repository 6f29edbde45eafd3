"""Whether ranks still hold the same of what each has in whole.

They begin alike and take the same steps. A method that draws in a step, or counts what it sees, does so in each by itself: then one
model's predictions would be several models', and the saved file the first one's.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from ..errors import NotSupported
from ..models.adaptation import Adaptation
from ..models.parted import is_parted
from . import ranks
from .fingerprints import changed, fingerprints, some

TOLERANCE = 1e-4  # of a tensor's norm: what sums in another order may differ by on another device


def check_alike(adaptation: Adaptation, head: Mapping[str, Tensor]) -> None:
    """Compare what trained, what the method keeps, and the buffers that a model stores.

    Raises:
        NotSupported: ranks hold other numbers.
    """
    if ranks.count() == 1:
        return
    model, stored = adaptation.model, adaptation.model.state_dict().keys()
    buffers = {name: buffer for name, buffer in model.named_buffers() if name in stored}
    held = {**buffers, **adaptation.frozen, **adaptation.params, **head}
    whole = {name: tensor.detach() for name, tensor in held.items() if not is_parted(tensor)}
    prints = ranks.gathered(fingerprints(whole))
    suspect = sorted(
        {name for its in prints for name in {*changed(prints[0], its), *changed(its, prints[0])}}
    )
    apart = [name for name in suspect if not _are_near(ranks.gathered(_cpu(whole.get(name))))]
    if apart:
        raise NotSupported(
            f"after training {some(apart)} differs between the processes of the run: the method draws or counts in each by itself; "
            "leave --gpus-per-run out"
        )


def _cpu(tensor: Tensor | None) -> Tensor | None:
    return None if tensor is None else tensor.cpu()


def _are_near(found: list[Tensor | None]) -> bool:
    first = found[0]
    if first is None or any(its is None or its.shape != first.shape for its in found):
        return False
    most = TOLERANCE * float(first.double().norm()) if first.is_floating_point() else 0.0
    return all(
        float(torch.sub(its.double(), first.double()).norm()) <= most for its in found if its is not None
    )
