"""A training in the middle, on the disk: a run that is ended carries on from there, on a CPU to the same weights bit for bit.

Kept are what trains, the optimizer's and the schedule's state, torch's generators, what was counted and measured so far, and what the
method keeps for itself between two steps. The order of the items needs no state: it follows from the seed.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from .. import progress
from ..folders import share
from ..measure.energy import EnergyMeter
from ..measure.environment import describe
from ..measure.memory import MemoryMeter
from ..models.parted import copy_into
from ..records.runs import Conditions, Run
from ..records.store import unwritable

if TYPE_CHECKING:
    from .prepare import Prepared
    from .train import Stepper, Trained
    from .witness import Witness

VERSION = 2  # raise it when a file of before can't be carried on
FILE = "state.pt"


@dataclass(frozen=True)
class Checkpoints:
    """Where a training keeps its state, and how often."""

    run: Run
    conditions: Conditions
    prepared: Prepared
    witness: Witness
    points: list[dict[str, Any]]  # of its learning curve
    meters: tuple[MemoryMeter, EnergyMeter]  # which do not count what it takes

    @property
    def _folder(self) -> Path | None:
        kept = self.conditions.checkpoint_folder
        return None if kept is None or not self.conditions.checkpoint_every else Path(kept)

    def carry_on(self, stepper: Stepper, seen: Trained) -> int:
        """Put what was kept in place; returns how many steps are done, 0 where nothing was kept."""
        if self._folder is None or not (self._folder / FILE).is_file():
            return 0
        try:
            kept = torch.load(self._folder / FILE, map_location="cpu", weights_only=True)
        except Exception as error:  # noqa: BLE001  whatever a broken file makes it raise
            self._say(f"its checkpoint can't be read ({type(error).__name__}), so it begins anew")
            return 0
        if kept.get("of") != self._of:
            self._say(
                "its checkpoint is of other versions of libraries or of this program, or has another --curve or --save-every, so it begins anew"
            )
            return 0
        for name, tensor in {
            **self.prepared.adaptation.params,
            **self.prepared.head,
            **self._buffers(),
        }.items():
            copy_into(tensor.detach(), kept["tensors"][name])
        stepper.optimizer.load_state_dict(kept["optimizer"])
        stepper.scheduler.load_state_dict(kept["scheduler"])
        stepper.done = kept["step"]
        if self.prepared.adaptation.between_steps is not None:
            self.prepared.adaptation.between_steps.put_back(kept["own"])
        for name, values in kept["seen"].items():
            getattr(seen, name)[:] = values
        seen.carried_on.append(kept["step"])
        self.points[:] = kept["points"]
        self.witness.put_back(kept["witness"])
        torch.set_rng_state(kept["generator"])
        if kept["gpu_generator"] is not None:
            torch.cuda.set_rng_state(kept["gpu_generator"])
        self._say(f"carries on after step {kept['step']:,}")
        return int(kept["step"])

    def after_step(self, done: int, steps: int, stepper: Stepper, seen: Trained) -> None:
        """Keep the state where it is time to."""
        if self._folder is None or done % self.conditions.checkpoint_every or done == steps:
            return
        adaptation = self.prepared.adaptation
        if adaptation.after_step is not None and adaptation.between_steps is None:
            if done == self.conditions.checkpoint_every:
                self._say(
                    "the method keeps something between steps and does not say what, so no checkpoint is made"
                )
            return
        tensors = {**adaptation.params, **self.prepared.head, **self._buffers()}
        on_gpu = self.run.device == "cuda"
        memory, energy = self.meters
        with memory.paused(), energy.paused():
            self._keep(
                {
                    "of": self._of,
                    "step": done,
                    "tensors": {name: tensor.detach() for name, tensor in tensors.items()},
                    "optimizer": stepper.optimizer.state_dict(),
                    "scheduler": stepper.scheduler.state_dict(),
                    "own": {} if adaptation.between_steps is None else adaptation.between_steps.state(),
                    "seen": dataclasses.asdict(seen),
                    "points": self.points,
                    "witness": self.witness.counts(),
                    "generator": torch.get_rng_state(),
                    "gpu_generator": torch.cuda.get_rng_state() if on_gpu else None,
                }
            )  # fmt: skip

    def _keep(self, state: dict[str, Any]) -> None:
        """Write the state. Where that is not allowed the training goes on without: a run is not worse for it."""
        try:
            self._write(state)
        except OSError as error:
            if unwritable(error) is not None:  # so that nothing else can be written either
                raise
            self._say(f"no checkpoint is kept after step {state['step']:,}: {error.strerror or error}")

    def _say(self, what: str) -> None:
        progress.notify(f"{self.run.method} on {self.run.model}, seed {self.run.seed}: {what}")

    @property
    def _of(self) -> dict[str, Any]:
        """What must be the same for the rest to be what it would have been."""
        return {
            "version": VERSION,
            "key": self.run.key,
            "curve": self.conditions.curve_points,
            "save_every": self.conditions.save_every,
            "libraries": describe(self.run.device, self.conditions)["libraries"],
        }

    def _buffers(self) -> dict[str, torch.Tensor]:
        return {f"buffer {name}": its for name, its in self.prepared.adaptation.model.named_buffers()}

    def _write(self, state: dict[str, Any]) -> None:
        assert self._folder is not None
        self._folder.mkdir(parents=True, exist_ok=True)
        aside = self._folder / f".{FILE}-{os.getpid()}"
        try:
            with aside.open("wb") as sink:
                torch.save(state, sink)
                sink.flush()
                os.fsync(sink.fileno())
        except RuntimeError as error:  # by which torch hides what the system said of the disk
            if isinstance(error.__context__, OSError):
                raise error.__context__ from error
            raise
        else:
            aside.replace(self._folder / FILE)
        finally:
            with contextlib.suppress(OSError):
                aside.unlink()
        share(self._folder)
