"""Low-rank updates with the weights that they are added to: from a stored run, or from a checkpoint of the PEFT library."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import Tensor

from ..data.peft_files import CONFIG, PREFIX, PeftFiles, check_pairs, factor_of, rank_and_alpha
from ..errors import NotSupported, UsageError
from ..models.roles import Site
from .subspace import Floats

OF_A, OF_B = ".lora_A.weight", ".lora_B.weight"


@dataclass(frozen=True)
class Update:
    """B A beside one weight matrix, or beside one slice of a fused one."""

    name: str  # dotted, as in a stock model; of a slice with its role behind it
    role: str | None  # None where the model is not known
    layer: int | None
    a: Floats  # (rank, in)
    b: Floats  # (out, rank), what the product is multiplied by included
    weight: Floats | None = None  # (out, in); None where the model is not known
    start: Floats | None = None  # A before training, (rank, in)

    @property
    def trained_rows(self) -> npt.NDArray[np.bool_]:
        """(rank,): those rows of A that moved. Where none did, or the start is not known, all.

        PiSSA's A, for one, is written with a copy of its start below it.
        """
        if self.start is None:
            return np.ones(len(self.a), np.bool_)
        moved: npt.NDArray[np.bool_] = np.any(self.a != self.start, axis=1)
        return moved if moved.any() else ~moved


def is_checkpoint(place: Path) -> bool:
    """Whether a folder is one that the PEFT library saved."""
    return (place / CONFIG).is_file()


def updates_at(place: Path, plugins: tuple[str, ...] = (), split: bool = True) -> list[Update]:
    """The updates of a stored run's folder, or of a folder that the PEFT library saved.

    Args:
        plugins: files and folders where the run's method is now, if it is not where it was.
        split: a fused projection of a run into the roles that were adapted; a checkpoint does not say what they are.

    Raises:
        UsageError: it is neither, or holds no low-rank updates.
    """
    if is_checkpoint(place):
        files = PeftFiles(place)
        pairs = _pairs(files.config, files.tensors(), repr(str(place)))
        return [Update(name, None, None, a, b) for name, (a, b) in pairs.items()]
    return _of_run(place, plugins, split)


def _of_run(folder: Path, plugins: tuple[str, ...], split: bool) -> list[Update]:
    from ..execution import prepare
    from ..execution.restore import load_sources, own_prefix, rebuilt, where_it_was
    from ..models.adaptation import weight_of
    from ..models.roles import linear_sites
    from ..plugins import build
    from ..records.record import Record

    run = Record.from_file(folder / "record.json").run
    load_sources(run, plugins)
    with where_it_was(run):
        trained = rebuilt(run, folder)
        fresh = prepare.prepare(run, prepare.objective_of(run), "cpu")
    forms = []
    for prepared in (trained, fresh):
        to_peft = getattr(build.build_method(run.method)[0], "to_peft", None)
        try:
            if to_peft is None:
                raise NotSupported("its update has no such form")
            form = to_peft(prepared.adaptation)
            forms.append(_pairs(form.config, form.tensors, repr(run.method)))
        except NotSupported as error:
            raise UsageError(f"{run.method!r} trains no low-rank updates to analyze: {error}") from error
    own = own_prefix(trained.adaptation.model)
    with trained.adaptation.without() as model:
        sites = linear_sites(model)
    found = []
    for name, (a, b) in forms[0].items():
        weight = _array(weight_of(trained.adaptation.swaps[name][0]))
        start = forms[1][name][0] if name in forms[1] and forms[1][name][0].shape == a.shape else None
        whole = Update(name.removeprefix(own), None, None, a, b, weight, start)
        found += _by_site(whole, sites.get(name, []), split)
    return found


def _by_site(whole: Update, sites: list[Site], split: bool) -> list[Update]:
    """One update for each role that the module plays and that something was trained for."""
    if len(sites) == 1 and sites[0].rows is None:
        return [dataclasses.replace(whole, role=sites[0].role, layer=sites[0].layer)]
    if sites and not split:
        return [dataclasses.replace(whole, layer=sites[0].layer)]
    found, several, seen = [], Counter(site.role for site in sites), Counter[str]()
    for site in sites:
        assert site.rows is not None  # several roles of one module are slices of it
        rows = slice(*site.rows)
        seen[site.role] += 1
        ranks = np.flatnonzero(np.any(whole.b[rows] != 0, axis=0))
        if len(ranks):
            found.append(
                Update(
                    f"{whole.name} {site.role}"
                    + (f" {seen[site.role]}/{several[site.role]}" if several[site.role] > 1 else ""),
                    site.role,
                    site.layer,
                    whole.a[ranks],
                    whole.b[rows][:, ranks],
                    None if whole.weight is None else whole.weight[rows],
                    None if whole.start is None else whole.start[ranks],
                )
            )
    return found or [whole]  # of a family without known roles, or trained to nothing


def _pairs(
    config: Mapping[str, Any], tensors: Mapping[str, Tensor], said: str
) -> dict[str, tuple[Floats, Floats]]:
    """A and the scaled B of each module.

    Raises:
        UsageError: it is no LoRA, or one whose update is not B A alone.
    """
    check_pairs(config, said)
    found = {}
    for key in (key for key in tensors if key.endswith(OF_A)):
        name = key.removeprefix(PREFIX).removesuffix(OF_A)
        a, b = tensors[key], tensors.get(key.removesuffix(OF_A) + OF_B)
        if b is None:
            raise UsageError(f"{said} has an A and no B at {name}; save the adapter again")
        if a.ndim != 2:  # a convolution's
            continue
        if not (a.isfinite().all() and b.isfinite().all()):
            raise UsageError(f"{said} holds numbers at {name} that are not finite; it diverged")
        found[name] = _array(a), _array(b) * factor_of(config, *rank_and_alpha(config, name))
    if not found:
        raise UsageError(
            f"{said} holds no pair of low-rank matrices of a linear layer (tensors that end with {OF_A})"
        )
    return found


def _array(tensor: Tensor) -> Floats:
    return tensor.detach().double().cpu().numpy()
