"""Latencies that papers printed, to stand beside what is measured here. Facts with their source; nothing is computed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

SOURCE = (
    "*published*: Hu et al. 2021 (arXiv 2106.09685), Table 1: GPT-2 medium, one NVIDIA Quadro RTX 8000, mean of 100 trials "
    "± standard deviation, in ms; data type and warm-up are not stated there."
)


@dataclass(frozen=True)
class Published:
    label: str
    parameters: str
    figures: tuple[str, ...]
    source: str


# By model, then (batch, length): what was printed. The paper's columns differ in parameters: 0.5M for the largest.
_GPT2_MEDIUM = {
    (32, 512): {"FT / LoRA merged": "1449.4 ±0.8", "AdapterL": "1482.0 ±1.0 +2.2 %", "AdapterH": "1492.2 ±1.0 +3.0 %"},
    (16, 256): {"FT / LoRA merged": "338.0 ±0.6", "AdapterL": "354.8 ±0.5 +5.0 %", "AdapterH": "366.3 ±0.5 +8.4 %"},
    (1, 128): {"FT / LoRA merged": "19.8 ±2.7", "AdapterL": "23.9 ±2.1 +20.7 %", "AdapterH": "25.8 ±2.2 +30.3 %"},
}  # fmt: skip
_MODELS = {"gpt2-medium": _GPT2_MEDIUM, "random-gpt2-medium": _GPT2_MEDIUM}


def published_for(model: str, places: Sequence[tuple[int, int]]) -> list[Published]:
    """The published rows for a model, where one of the (batch, length) cells was measured by the paper."""
    known = _MODELS.get(model.rsplit("/", 1)[-1].lower(), {})
    if not any(place in known for place in places):
        return []
    return [
        Published(
            label,
            "0.5M / 11M" if label.startswith("Adapter") else "",
            tuple(known[place][label] if place in known else "–" for place in places),
            SOURCE,
        )
        for label in next(iter(known.values()))
    ]
