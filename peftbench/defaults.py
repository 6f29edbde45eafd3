"""The defaults of the command line: the one place in the core where methods, tasks and models have names."""

from __future__ import annotations

METHODS = "lora,adapter,prefix"
MODEL = "minilm-l6"
TASK = "rotten-tomatoes"
BASELINES = ("full", "head")
REFERENCE = "full"  # what differences are taken to
REPORT = "markdown"
STORE = "runs"

SEEDS = 3
STEPS = 60
BATCH_SIZE = 16
MAX_LENGTH = 48
HEAD_LEARNING_RATE = 1e-2  # chosen with the presets: docs/results/presets.md
LATENCY_GRID = {"cpu": ((1, 32), (4, 32)), "cuda": ((1, 128), (16, 256), (32, 512))}
