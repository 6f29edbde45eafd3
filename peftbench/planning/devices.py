"""Which device and data type a request means, of those that the engine has."""

from __future__ import annotations

from ..engine.protocol import Capacity, Device
from ..errors import UsageError


def resolve_device(asked: str, capacity: Capacity) -> Device:
    """The devices that "auto", "cpu" or "cuda" stands for.

    Raises:
        UsageError: there are none of that kind.
    """
    device = capacity.device(asked)
    if device is None:
        known = " or ".join(f"--device {one.kind}" for one in capacity.devices)
        raise UsageError(
            f"--device {asked}: torch sees no {asked.upper()} GPU here; use {known}, or see `peftbench doctor`"
        )
    return device


def resolve_dtype(asked: str, device: Device) -> str:
    """The data type of the compute: of "auto" bfloat16 where the device runs it at speed."""
    if asked == "auto":
        return "bfloat16" if device.bfloat16 else "float32"
    return asked
