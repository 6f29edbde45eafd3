"""The PEFT library's layers in a model, as an Adaptation: what that library made is read off the model afterwards.

Parameters and buffers that were not there before are the method's; a tuner layer stands in the place of its base. The
library draws from torch's generator inside the stream `peft`. Its names for the saved tensors, and the shared ones that it
keeps outside of the model, come from its own functions.
"""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import importlib.util
import re
import types
import warnings
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from peftbench import Adaptation, NotSupported, PeftExport, UsageError, layer_stream
from peftbench.data.peft_files import PREFIX, PeftFiles, of_pattern
from peftbench.execution.fingerprints import changed, fingerprints
from peftbench.models.adaptation import folded_type

from ._peft_names import DROPPED, also_trained, endings, listed, locate, relative_names

ADAPTER = "default"  # the library's name for the only adapter
REFUSALS = (ValueError, TypeError, KeyError, AttributeError, NotImplementedError, RuntimeError, ImportError)


@dataclass
class PeftAdaptation(Adaptation):
    """An adaptation that remembers the library's tuner, which may hold tensors that layers share, and what it warned of."""

    tuner: Any = None
    warned: tuple[str, ...] = ()


@contextlib.contextmanager
def quiet() -> Iterator[list[warnings.WarningMessage]]:
    """Without the library's warnings, which speak to its own users; they are in the list that is given."""
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        yield heard


def library() -> Any:
    """The PEFT library, imported when it is needed.

    Raises:
        UsageError: it is not installed.
    """
    if importlib.util.find_spec("peft") is None:
        raise UsageError("methods of the PEFT library need it: pip install 'peftbench[peft]'")
    with quiet():
        import peft

        return peft


def inject_tuner(model: nn.Module, config: Any, merges: bool) -> PeftAdaptation:
    """Let the tuner of a PEFT config into a model.

    Raises:
        NotSupported: the library can't do it on this model, or writes over the model's own weights.
    """
    parameters = dict(model.named_parameters())
    if next(iter(parameters.values())).is_meta:
        return _without_weights(model, config, merges)
    own = fingerprints(parameters)
    adaptation = _let_in(model, config, merges)
    if written := changed(own, fingerprints(parameters)):
        raise NotSupported(
            f"the PEFT library's {config.peft_type.value} with these options writes over the model's own weights "
            f"({listed(written)}), which runs here must find as they were; `pissa` starts at singular directions too"
        )
    return adaptation


def _without_weights(model: nn.Module, config: Any, merges: bool) -> PeftAdaptation:
    """On a model without weights: shapes alone where the tuner asks no more, else numbers for the time of injection."""
    try:
        _let_in(copy.deepcopy(model), copy.deepcopy(config), merges, empty=True)
    except NotSupported:
        own = {
            (module, name): p
            for module in model.modules()
            if type(module).__name__ in ("Linear", "Conv1D")
            for name, p in module._parameters.items()
            if p is not None
        }
        for (module, name), p in own.items():
            module._parameters[name] = nn.Parameter(torch.randn(p.shape) * 0.02, requires_grad=False)
        try:
            return _let_in(model, config, merges)
        finally:
            for (module, name), p in own.items():
                module._parameters[name] = p
    return _let_in(model, config, merges, empty=True)


def _let_in(model: nn.Module, config: Any, merges: bool, empty: bool = False) -> PeftAdaptation:
    peft = library()
    before = {id(t) for t in (*model.parameters(), *model.buffers())}
    modules = dict(model.named_modules())
    try:
        with quiet() as heard, layer_stream("peft"):
            build = peft.mapping.PEFT_TYPE_TO_TUNER_MAPPING[config.peft_type]
            if config.is_adaption_prompt:
                tuner = build(model, {ADAPTER: config}, ADAPTER)
            else:
                tuner = build(model, config, ADAPTER, low_cpu_mem_usage=empty)
    except REFUSALS as error:
        said = " ".join(str(error).split())[:200]
        raise NotSupported(
            f"the PEFT library's {config.peft_type.value} can't serve this model: {said}"
        ) from error
    finally:
        if hasattr(model, "peft_config"):  # the library would take it for a model that is adapted already
            del model.peft_config
    # What trains is float32 over any weights, and some tuners do not mix types.
    for module in model.modules():
        for name, held in module._buffers.items():
            if held is not None and id(held) not in before and held.dtype in (torch.bfloat16, torch.float16):
                module._buffers[name] = held.float()
    swaps = _swaps(model, modules)
    if merges:
        for _, layer in swaps.values():
            layer.fold = types.MethodType(_fold, layer)  # type: ignore[assignment]
    fresh = {name: p for name, p in model.named_parameters() if id(p) not in before}
    params = {name: p for name, p in fresh.items() if p.requires_grad}
    frozen: dict[str, Tensor] = {name: p.detach() for name, p in fresh.items() if not p.requires_grad}
    frozen |= {name: b for name, b in _saved_buffers(model) if id(b) not in before}
    frozen |= _drawn_places(swaps, config)
    warned = tuple(str(one.message) for one in heard)
    return PeftAdaptation(model, params, swaps, frozen, tuner=tuner, warned=warned)


def _saved_buffers(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Those that the library does not make again from its config and the model, such as permutations."""
    seen: set[int] = set()
    for prefix, module in model.named_modules():
        for name, held in module._buffers.items():
            if held is not None and name not in module._non_persistent_buffers_set and id(held) not in seen:
                seen.add(id(held))
                yield f"{prefix}.{name}", held


def _swaps(model: nn.Module, before: dict[str, nn.Module]) -> dict[str, tuple[nn.Module, nn.Module]]:
    """Module name -> (what stood there, the library's layer), outermost layers alone."""
    found: dict[str, tuple[nn.Module, nn.Module]] = {}
    for name, module in model.named_modules():
        if name in before and module is not before[name] and not any(name.startswith(f"{n}.") for n in found):
            found[name] = (before[name], module)
    return found


def _drawn_places(swaps: dict[str, tuple[nn.Module, nn.Module]], config: Any) -> dict[str, Tensor]:
    """Places that a layer drew and keeps in a plain dict, neither parameter nor buffer; a seed of the config repeats them."""
    if any(name.endswith(("seed", "prng_key")) and value is not None for name, value in vars(config).items()):
        return {}
    found: dict[str, Tensor] = {}
    for name, (_, layer) in swaps.items():
        for attribute in getattr(layer, "other_param_names", ()):
            held = getattr(layer, attribute, None)
            if type(held) is dict and isinstance(tensor := held.get(ADAPTER), Tensor):
                found[f"{name}.{attribute}.{ADAPTER}"] = tensor
    return found


def _fold(self: Any) -> nn.Module:
    """One plain layer with the same outputs: the library merges a copy into the copy's own base, in float32; then it is cast once."""
    with quiet(), torch.no_grad():
        twin = copy.deepcopy(self)
        base: nn.Module = twin.get_base_layer()
        kind = folded_type(next(base.parameters()).dtype)
        base.float()
        twin.merge()
        layer: nn.Module = twin.get_base_layer()  # some put another in its place
    return layer.requires_grad_(False).to(kind)


def set_targets(
    config: Any, model: nn.Module, wanted: Collection[str], feedforward: Collection[str] = ()
) -> None:
    """Write module names into a config as the shortest endings that match them alone."""
    short = endings(model, wanted)
    config.target_modules = set(short.values())
    if hasattr(config, "feedforward_modules"):
        config.feedforward_modules = {short[name] for name in feedforward}


class Checkpoint(PeftFiles):
    """A folder that the PEFT library saved an adapter to, of whatever kind."""

    def inject(self, model: nn.Module, merges: bool) -> PeftAdaptation:
        """Let the adapter into a model, with its weights as the start. Its head, if any, stays out: a task has its own.

        Raises:
            UsageError: its weights and this model do not fit.
            NotSupported: the library can't do it on this model.
        """
        peft = library()
        kind = self.config.get("peft_type")
        if also := also_trained(self, model):
            raise UsageError(f"the adapter also trained {also}, {DROPPED}")
        names = relative_names(model)
        saved_heads = tuple(self.config.get("modules_to_save") or ())
        wanted: dict[str, str] = {}  # name in this model -> name in the checkpoint
        renamed: dict[str, Tensor] = {}
        for key, tensor in self.tensors().items():
            inner = key.removeprefix(PREFIX)
            place = locate(inner, names) if inner != key else None
            if place is not None:
                module, rest = place
                wanted[module] = inner.removesuffix(f".{rest}")
                renamed[f"{PREFIX}{module}.{rest}"] = tensor
            elif inner == key:  # shared by all layers
                renamed[key] = tensor
            elif not any(part in saved_heads for part in inner.split(".")):
                raise UsageError(f"start {str(self.folder)!r}: this model has no place for {inner!r}")
        config = self._known_config()
        config.inference_mode, config.modules_to_save = False, None
        if hasattr(config, "layers_to_transform"):  # the names say which
            config.layers_to_transform = config.layers_pattern = None
        for option in ("rank_pattern", "alpha_pattern"):
            if patterns := getattr(config, option, None):
                said = {ours: of_pattern(patterns, theirs, None) for ours, theirs in wanted.items()}
                setattr(config, option, {name: value for name, value in said.items() if value is not None})
        forward = self.config.get("feedforward_modules") or ()
        inside = [ours for ours, theirs in wanted.items() if _matches(theirs, forward)]
        if hasattr(config, "target_modules") and not config.is_adaption_prompt:
            set_targets(config, model, list(wanted), inside)
        adaptation = inject_tuner(model, config, merges)
        if next(model.parameters()).is_meta:
            return adaptation
        shell = _as_the_library_has_it(adaptation)
        with quiet(), torch.no_grad():
            try:
                result = peft.set_peft_model_state_dict(shell, renamed, adapter_name=ADAPTER)
            except RuntimeError as error:
                raise UsageError(
                    f"start {str(self.folder)!r}: its {kind} weights do not fit this model: {error}"
                ) from error
        missing = set(result.missing_keys)  # by every name that a shared tensor has
        loaded = {t.data_ptr() for name, t in shell.state_dict().items() if name not in missing}
        absent = [name for name, p in adaptation.params.items() if p.data_ptr() not in loaded]
        if strange := [*result.unexpected_keys, *absent]:
            raise UsageError(
                f"start {str(self.folder)!r}: its weights and this model differ in {listed(strange)}"
            )
        return adaptation

    def _known_config(self) -> Any:
        """The configuration as the library reads it.

        Raises:
            UsageError: it does not, or would leave out what it does not know.
        """
        try:
            with quiet():
                config = library().PeftConfig.from_pretrained(str(self.folder))
        except REFUSALS as error:
            said = " ".join(str(error).split())[:200]
            raise UsageError(
                f"start {str(self.folder)!r}: the PEFT library does not read its config: {said}"
            ) from error
        known = {*fields_of(type(config)), "runtime_config"}
        if strange := [name for name, value in self.config.items() if value and name not in known]:
            raise UsageError(
                f"start {str(self.folder)!r} was made with {listed(strange)}, which the installed PEFT library does not know; "
                "install a newer one"
            )
        return config


def _matches(name: str, patterns: Any) -> bool:
    if isinstance(patterns, str):
        return re.fullmatch(patterns, name) is not None
    return any(name == pattern or name.endswith(f".{pattern}") for pattern in patterns)


class _Shell(nn.Module):
    """What the library's functions for saved states ask of a model: its tuner by the name that they expect."""

    def __init__(self, tuner: Any) -> None:
        super().__init__()
        self.base_model = tuner
        self.peft_config = tuner.peft_config


def _as_the_library_has_it(adaptation: PeftAdaptation) -> nn.Module:
    return _Shell(adaptation.tuner)


def exported(adaptation: Adaptation) -> PeftExport:
    """The config and the tensors that the library would save."""
    assert isinstance(adaptation, PeftAdaptation)
    peft = library()
    config = adaptation.tuner.peft_config[ADAPTER]
    with quiet():
        tensors = peft.get_peft_model_state_dict(
            _as_the_library_has_it(adaptation), adapter_name=ADAPTER, save_embedding_layers=False
        )
    said = {**config.to_dict(), "inference_mode": True}
    names = sorted(adaptation.swaps)
    if not config.is_adaption_prompt:
        if said.get("feedforward_modules"):
            said["feedforward_modules"] = [n for n in names if _matches(n, said["feedforward_modules"])]
        said |= {"target_modules": names}
        said |= {
            name: None
            for name in ("layers_to_transform", "layers_pattern", "exclude_modules")
            if name in said
        }
    return PeftExport(said, {name: tensor.detach() for name, tensor in tensors.items()})


def fields_of(config_class: Any) -> dict[str, Any]:
    """Name -> type of what can be set in a PEFT config."""
    import typing

    hints = typing.get_type_hints(config_class)
    return {field.name: hints[field.name] for field in dataclasses.fields(config_class) if field.init}
