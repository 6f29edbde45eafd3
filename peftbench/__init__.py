"""peftbench: compare fine-tuning methods on your model and data.

    peftbench.run(methods=["lora", "adapter"])      a comparison as a pandas DataFrame
    peftbench.method, .task, .report                decorators for a file of your own

Names are imported on first use: `import peftbench` and `peftbench --help` do not wait for torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .api import run
    from .data.peft_files import PeftExport
    from .data.wheels import Wheel, fetch
    from .errors import NotSupported, PeftbenchError, UsageError
    from .models.adaptation import Adaptation, Batch, plain, select, swap, weight_of
    from .models.roles import Site, sites
    from .models.streams import layer_stream
    from .objectives.base import Objective
    from .objectives.chat import Chat
    from .objectives.choice import Choice
    from .objectives.completion import Completion
    from .objectives.decoding import Decoding
    from .objectives.item_metrics import ItemMetric
    from .objectives.labels import Classification, Regression
    from .objectives.metric import Metric
    from .objectives.text_metrics import TextMetric
    from .plugins.contracts import Claims, Facts, MethodDeclaration, Preset
    from .plugins.decorators import experiment, method, report, task

_HOMES = {
    "api": ("run",),
    "data.peft_files": ("PeftExport",),
    "data.wheels": ("Wheel", "fetch"),
    "errors": ("NotSupported", "PeftbenchError", "UsageError"),
    "models.adaptation": ("Adaptation", "Batch", "plain", "select", "swap", "weight_of"),
    "models.roles": ("Site", "sites"),
    "models.streams": ("layer_stream",),
    "objectives.base": ("Objective",),
    "objectives.chat": ("Chat",),
    "objectives.choice": ("Choice",),
    "objectives.completion": ("Completion",),
    "objectives.decoding": ("Decoding",),
    "objectives.item_metrics": ("ItemMetric",),
    "objectives.labels": ("Classification", "Regression"),
    "objectives.metric": ("Metric",),
    "objectives.text_metrics": ("TextMetric",),
    "plugins.contracts": ("Claims", "Facts", "MethodDeclaration", "Preset"),
    "plugins.decorators": ("experiment", "method", "report", "task"),
}
_HOME = {name: module for module, names in _HOMES.items() for name in names}

__all__ = [
    "Adaptation",
    "Batch",
    "Chat",
    "Choice",
    "Claims",
    "Classification",
    "Completion",
    "Decoding",
    "Facts",
    "ItemMetric",
    "MethodDeclaration",
    "Metric",
    "NotSupported",
    "Objective",
    "PeftExport",
    "PeftbenchError",
    "Preset",
    "Regression",
    "Site",
    "TextMetric",
    "UsageError",
    "Wheel",
    "experiment",
    "fetch",
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
