"""What a plugin must leave as it found it: torch's settings of the whole process, the global random generators, and while it is
imported the functions of torch and of the models' classes.

One that a plugin changed is put back, so that neither its own run nor another one's is done under it, and is named. Where torch
is not there yet, nothing computes in this process and there is nothing to guard.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import BuiltinFunctionType, FunctionType
from typing import Any

FOREIGN = ("Python's generator", "NumPy's generator")  # which nothing of a training step draws from
GENERATORS = (*FOREIGN, "torch's generator", "the GPU's generator")
# Where functions stand that a run computes with, and what they are.
COMPUTING = (
    "torch.nn.modules",
    "torch.nn.functional",
    "torch.optim",
    "transformers.models.",
    "transformers.modeling_",
)
FUNCTIONS = (FunctionType, BuiltinFunctionType, staticmethod, classmethod, property)
Setting = tuple[Callable[[], Any], Callable[[Any], object]]


def _attribute(place: Any, name: str) -> Setting:
    return (lambda: getattr(place, name)), (lambda value: setattr(place, name, value))


def _settings(torch: Any) -> dict[str, Setting]:
    """How each is read and set, by what it is called."""
    cuda, cudnn = torch.backends.cuda, torch.backends.cudnn
    return {
        "the number of threads": (torch.get_num_threads, torch.set_num_threads),
        "the default data type": (torch.get_default_dtype, torch.set_default_dtype),
        "the default device": (lambda: torch.utils._device.CURRENT_DEVICE, torch.set_default_device),
        "the float32 matmul precision": (
            torch.get_float32_matmul_precision,
            torch.set_float32_matmul_precision,
        ),
        "TF32 in convolutions": _attribute(cudnn, "allow_tf32"),
        "cuDNN's benchmarking": _attribute(cudnn, "benchmark"),
        "cuDNN's determinism": _attribute(cudnn, "deterministic"),
        "reduced precision of bfloat16 sums": _attribute(
            cuda.matmul, "allow_bf16_reduced_precision_reduction"
        ),
        "reduced precision of float16 sums": _attribute(
            cuda.matmul, "allow_fp16_reduced_precision_reduction"
        ),
        "flash attention": (cuda.flash_sdp_enabled, cuda.enable_flash_sdp),
        "memory-efficient attention": (cuda.mem_efficient_sdp_enabled, cuda.enable_mem_efficient_sdp),
        "plain attention": (cuda.math_sdp_enabled, cuda.enable_math_sdp),
        "oneDNN": (lambda: torch._C._get_mkldnn_enabled(), torch._C._set_mkldnn_enabled),
        "deterministic algorithms": (
            torch.get_deterministic_debug_mode,
            torch.set_deterministic_debug_mode,
        ),
        "gradients": (torch.is_grad_enabled, torch.set_grad_enabled),
        "anomaly detection": (torch.is_anomaly_enabled, torch.autograd.set_detect_anomaly),
        "denormal numbers": (
            lambda: _keeps_denormals(torch),
            lambda kept: torch.set_flush_denormal(not kept),
        ),
    }


def _keeps_denormals(torch: Any) -> bool:
    return bool(torch.full((), 1e-38, dtype=torch.float32, device="cpu") * 0.1 != 0)


def _generators(torch: Any) -> dict[str, Setting]:
    import numpy as np

    found: dict[str, Setting] = {
        "Python's generator": (random.getstate, random.setstate),
        "NumPy's generator": (lambda: np.random.get_state(legacy=True), np.random.set_state),
        "torch's generator": (torch.get_rng_state, torch.set_rng_state),
    }
    if torch.cuda.is_initialized():
        found["the GPU's generator"] = (torch.cuda.get_rng_state, torch.cuda.set_rng_state)
    return found


class Code:
    """The functions that every run computes with: torch's, and those of the models' classes, as they are bound now."""

    def __init__(self) -> None:
        modules = [module for name, module in list(sys.modules.items()) if name.startswith(COMPUTING)]
        classes = {value for module in modules for value in vars(module).values() if isinstance(value, type)}
        places: list[Any] = [*modules, *classes]
        self.before = [(place, _functions(place)) for place in places]

    def restore(self) -> list[str]:
        """Bind again what is bound to another function now; returns the names."""
        changed = []
        for place, functions in self.before:
            for name, function in functions.items():
                if vars(place).get(name) is not function:
                    setattr(place, name, function)
                    changed.append(f"{place.__name__}.{name}")
        return changed


def _functions(place: Any) -> dict[str, Any]:
    return {name: value for name, value in list(vars(place).items()) if isinstance(value, FUNCTIONS)}


class Fence:
    """The state of the process when it was put up.

    Args:
        generators: which of the global generators it guards beside the settings.
    """

    def __init__(self, generators: Sequence[str] = GENERATORS) -> None:
        torch = sys.modules.get("torch")
        self.guarded: dict[str, Setting] = {}
        if torch is not None and hasattr(torch, "get_num_threads"):
            wanted = {name: setting for name, setting in _generators(torch).items() if name in generators}
            self.guarded = _settings(torch) | wanted
        self.before = {name: read() for name, (read, _) in self.guarded.items()}

    def restore(self) -> list[str]:
        """Put back what is no longer as it was; returns its names."""
        changed = []
        for name, (read, put) in self.guarded.items():
            if not _same(read(), self.before[name]):
                put(self.before[name])
                changed.append(name)
        return changed


@contextmanager
def fenced(changed: list[str], when: str, generators: Sequence[str] = GENERATORS) -> Iterator[None]:
    """Put back whatever the block changes, and add to `changed` what it was, and when."""
    fence = Fence(generators)
    try:
        yield
    finally:
        changed += [f"{name} {when}" for name in fence.restore()]


def _same(one: Any, other: Any) -> bool:
    if hasattr(one, "equal"):  # a tensor
        return bool(one.equal(other))
    if isinstance(one, tuple):  # a generator's state
        return all(
            (a == b).all() if hasattr(a == b, "all") else a == b for a, b in zip(one, other, strict=True)
        )
    return bool(one == other)
