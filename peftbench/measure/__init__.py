"""The meters: parameters, memory, step time and inference latency."""

from __future__ import annotations
