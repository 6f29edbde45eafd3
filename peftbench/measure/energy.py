"""Energy of a phase, where a counter can be read: the GPU's, or the processor packages'. Never estimated.

The counters are the device's, not the process's: what neighbours used meanwhile is in them.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from . import nvml

POWERCAP = Path("/sys/class/powercap")


@dataclass(frozen=True)
class Energy:
    """Joules between `EnergyMeter(...)` and `used()`; None where no counter can be read."""

    taken_by: str | None  # "NVML total energy" or "RAPL packages"
    energy_j: float | None


class EnergyMeter:
    """Reads the counters from its creation on, except while it is paused."""

    def __init__(self, device_type: str, powercap: Path = POWERCAP) -> None:
        self.device_type, self.powercap = device_type, powercap
        self.energy_j = 0.0
        self.began = self._read()

    def used(self) -> Energy:
        """What was used since."""
        now = self._read()
        if self.began is None or now is None:
            return Energy(None, None)
        taken_by = "NVML total energy" if self.device_type == "cuda" else "RAPL packages"
        return Energy(taken_by, self.energy_j + self._joules(self.began, now))

    @contextmanager
    def paused(self) -> Iterator[None]:
        """What the block uses is not counted."""
        now = self._read()
        if self.began is not None and now is not None:
            self.energy_j += self._joules(self.began, now)
        try:
            yield
        finally:
            self.began = self._read()

    def _joules(self, began: Mapping[str, float], now: Mapping[str, float]) -> float:
        if self.device_type == "cuda":
            return (now["gpu"] - began["gpu"]) / 1e3
        microjoules = 0.0
        for zone, value in now.items():
            before = began.get(zone, value)
            wrapped = value < before  # the counter starts again at its range's end
            microjoules += value - before + (_range(self.powercap / zone) if wrapped else 0.0)
        return microjoules / 1e6

    def _read(self) -> Mapping[str, float] | None:
        if self.device_type == "cuda":
            millijoules = nvml.energy_mj()
            return None if millijoules is None else {"gpu": millijoules}
        return rapl(self.powercap)


def rapl(powercap: Path = POWERCAP) -> dict[str, float] | None:
    """Microjoules of each processor package, or None where they can't be read."""
    found = {}
    for zone in sorted(powercap.glob("intel-rapl:*")):
        if zone.name.count(":") != 1:  # a part of a package, counted in it
            continue
        try:
            found[zone.name] = float((zone / "energy_uj").read_text())
        except (OSError, ValueError):
            return None
    return found or None


def why_not(device_type: str) -> str | None:
    """Why energy can't be read here, or None."""
    if device_type == "cuda":
        reason = nvml.available()
        if reason is not None:
            return reason
        return None if nvml.energy_mj() is not None else "this GPU has no total energy counter"
    zones = list(POWERCAP.glob("intel-rapl:*")) if POWERCAP.is_dir() else []
    if not zones:
        return "the system shows no RAPL counters"
    if rapl() is None:
        return "the RAPL counters are not readable by this user" + (
            " (root may)" if os.name == "posix" else ""
        )
    return None


def _range(zone: Path) -> float:
    try:
        return float((zone / "max_energy_range_uj").read_text())
    except (OSError, ValueError):
        return 0.0
