"""Which device and data type a request means, of those that the engine has."""

from __future__ import annotations

from ..engine.protocol import Capacity, Device
from ..errors import UsageError
from ..models.resolve import config_of
from ..models.source import Source
from ..plugins import build
from ..progress import notify


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


def check_ranks(ranks: int, device: Device, capacity: Capacity) -> None:
    """Whether there is a GPU, or a core, for each process of a run, where the engine's machine is known.

    Raises:
        UsageError: there is not.
    """
    there, what = (device.count, "GPU") if device.kind == "cuda" else (capacity.cores, "core")
    if ranks > max(1, there) and not capacity.apart:
        raise UsageError(
            f"--gpus-per-run {ranks}: each run has a machine with {there} {what}{'s' if there != 1 else ''}; ask for {there} at most"
        )


def method_on(text: str, device: Device) -> str:
    """The canonical SPEC of a method, with what it leaves to the device filled in."""
    plain, filled = build.canonical(text), build.canonical(text, device.kind)
    if filled != plain:
        notify(f"{plain} is {filled} on this device")
    return filled


def resolve_dtype(asked: str, device: Device, weights: str = "auto") -> str:
    """The data type of the compute: of "auto" bfloat16 where the device runs it at speed, or the weights are asked for in it."""
    if asked == "auto":
        return "bfloat16" if device.bfloat16 or weights == "bfloat16" else "float32"
    return asked


def resolve_weights(asked: str, device: Device, dtype: str, source: Source | None) -> str:
    """The data type of the frozen base: of "auto" the checkpoint's own on a GPU, float32 on a processor.

    A float16 checkpoint is read as bfloat16, in which the compute is.

    Raises:
        UsageError: the weights would be in a type that the compute is not in.
    """
    if asked == "bfloat16" and dtype != "bfloat16":
        raise UsageError(
            f"--weights bfloat16 with --dtype {dtype}: the compute would cast every weight in every pass; leave --dtype out"
        )
    if asked != "auto":
        return asked
    if device.kind != "cuda" or dtype != "bfloat16" or source is None:
        return "float32"
    said = config_of(source)
    own = said.get("dtype", said.get("torch_dtype"))
    return "bfloat16" if own in ("bfloat16", "float16") else "float32"
