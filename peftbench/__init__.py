"""peftbench: compare fine-tuning methods on your model and data.

    peftbench.run(methods=["lora", "adapter"])      a comparison as a pandas DataFrame
    peftbench.method, .task, .report                decorators for a file of your own

Names are imported on first use: `import peftbench` and `peftbench --help` do not wait for torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .adaptation import Adaptation, Batch, plain, select, swap, weight_of
    from .api import run
    from .architecture import Site, sites
    from .declare import Claims, Facts, MethodDeclaration, Preset, experiment, method, report, task
    from .errors import NotSupported, PeftbenchError, UsageError
    from .export import PeftExport
    from .objectives import Classification, Metric, Regression
    from .streams import layer_stream

_HOMES = {
    "adaptation": ("Adaptation", "Batch", "plain", "select", "swap", "weight_of"),
    "api": ("run",),
    "architecture": ("Site", "sites"),
    "declare": ("Claims", "Facts", "MethodDeclaration", "Preset", "experiment", "method", "report", "task"),
    "errors": ("NotSupported", "PeftbenchError", "UsageError"),
    "export": ("PeftExport",),
    "objectives": ("Classification", "Metric", "Regression"),
    "streams": ("layer_stream",),
}
_HOME = {name: module for module, names in _HOMES.items() for name in names}

__all__ = [
    "Adaptation",
    "Batch",
    "Claims",
    "Classification",
    "Facts",
    "MethodDeclaration",
    "Metric",
    "NotSupported",
    "PeftExport",
    "PeftbenchError",
    "Preset",
    "Regression",
    "Site",
    "UsageError",
    "experiment",
    "layer_stream",
    "method",
    "plain",
    "report",
    "run",
    "select",
    "sites",
    "swap",
    "task",
    "weight_of",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'peftbench' has no attribute {name!r}")
    value = getattr(importlib.import_module(f".{_HOME[name]}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
