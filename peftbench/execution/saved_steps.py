"""Weights in the middle of a training, for who wants to look at them: what trains as it is after a step, the head, and what the method
keeps for itself. What is exported of a step settles first, as at the end.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

from .. import progress
from ..measure.energy import EnergyMeter
from ..measure.memory import MemoryMeter
from ..models.parted import copy_into
from ..records.runs import Conditions, Run
from ..records.store import unwritable
from ..records.weights import saved_steps, step_file
from . import ranks
from .prepare import Prepared

OWN = "between steps: "  # before the names of what the method keeps for itself


@dataclass(frozen=True)
class SavedSteps:
    """Which steps' weights a training saves."""

    run: Run
    conditions: Conditions
    prepared: Prepared
    out: Path
    meters: tuple[MemoryMeter, EnergyMeter]  # which do not count what it takes

    @property
    def _is_kept(self) -> bool:
        """Whole models are kept where that is asked for, here as at the end."""
        return self.prepared.claims.exact_base or self.conditions.keep_weights

    def after(self, watch: Callable[[int, float], None]) -> Callable[[int, float], None]:
        """What the trainer calls after each step, with the saving behind it."""

        def both(done: int, train_s: float) -> None:
            watch(done, train_s)
            self._after_step(done)

        return both

    def _after_step(self, done: int) -> None:
        every = self.conditions.save_every
        if not every or done % every:
            return
        if not self._is_kept:
            if done == every:
                progress.notify(
                    f"{self.run.method} trains the whole model, whose weights are saved with --keep-weights alone"
                )
            return
        adaptation = self.prepared.adaptation
        if adaptation.after_step is not None and adaptation.between_steps is None:
            if done == every:
                progress.notify(
                    f"{self.run.method}: the method keeps something between steps and does not say what, so no step's weights are saved"
                )
            return
        memory, energy = self.meters
        with memory.paused(), energy.paused():
            self._save(done)

    def _save(self, done: int) -> None:
        adaptation = self.prepared.adaptation
        own = {} if adaptation.between_steps is None else adaptation.between_steps.state()
        tensors = {name: its.detach() for name, its in _kept(self.prepared).items()}
        ranks.save(
            {**tensors, **{f"{OWN}{name}": its for name, its in own.items()}}, step_file(self.out, done)
        )
        if self._beside is not None:  # the state that a later process carries on from does not hold it
            try:
                self._beside.mkdir(parents=True, exist_ok=True)
                _linked(step_file(self.out, done), step_file(self._beside, done))
            except OSError as error:
                if unwritable(error) is not None:  # so that nothing else can be written either
                    raise
                progress.notify(
                    f"{self.run.method}: the weights after step {done:,} are lost if this run is ended: {error.strerror}"
                )

    def take_over(self, done: int) -> None:
        """What an earlier process saved until the step that this one carried on from."""
        if not done or self._beside is None:
            return
        for step in saved_steps(self._beside):
            if step <= done:
                _linked(step_file(self._beside, step), step_file(self.out, step))

    @property
    def _beside(self) -> Path | None:
        kept = self.conditions.checkpoint_folder
        return None if kept is None or not self.conditions.checkpoint_every else Path(kept)


def put_back(prepared: Prepared, saved: Mapping[str, torch.Tensor]) -> None:
    """Make a model what it was after a step, from what was saved then, and settle it.

    Raises:
        ValueError: names or shapes are not the model's.
    """
    own = {name.removeprefix(OWN): its for name, its in saved.items() if name.startswith(OWN)}
    saved = {name: its for name, its in saved.items() if not name.startswith(OWN)}
    present = _kept(prepared)
    if strange := sorted(present.keys() ^ saved.keys()):
        raise ValueError(f"saved and present tensors differ in {', '.join(strange[:5])}")
    for name, tensor in present.items():
        if tensor.shape != saved[name].shape:
            raise ValueError(f"{name} has shape {tuple(tensor.shape)}, saved is {tuple(saved[name].shape)}")
        copy_into(tensor.detach(), saved[name])
    adaptation = prepared.adaptation
    if adaptation.between_steps is not None:
        adaptation.between_steps.put_back(own)
    if adaptation.settle is not None:
        adaptation.settle()


def _kept(prepared: Prepared) -> dict[str, torch.Tensor]:
    return {**prepared.adaptation.params, **prepared.adaptation.frozen, **prepared.head}


def _linked(file: Path, to: Path) -> None:
    """Two names of one file, or a copy where the file system has no links."""
    with contextlib.suppress(FileNotFoundError):
        to.unlink()
    try:
        os.link(file, to)
    except OSError:
        shutil.copyfile(file, to)
