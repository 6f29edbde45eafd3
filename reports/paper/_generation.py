"""The tasks on which the experiments with language models write, at each scale."""

from __future__ import annotations

from pathlib import Path

from peftbench.experiments.page import Asked

from ._scored import Scored, Setting

STARTER = "smollm2-135m-instruct-q4"


def columns_of(asked: Asked) -> dict[str, Setting]:
    """E2E where its data is at hand; on a CPU else a stand-in from the starter's own."""
    if asked.scale == "full":
        return {"E2E": Setting("openai-community/gpt2-medium", "e2e-nlg", seeds=3, epochs=5.0, batch_size=8, max_length=512)}  # fmt: skip
    if asked.scale == "small":
        return {"E2E": Setting("openai-community/gpt2-medium", "e2e-nlg:inputs=100:beams=4", seeds=3, steps=500, batch_size=8)}  # fmt: skip
    if asked.data_dir is not None and (Path(asked.data_dir) / "e2e_nlg").is_dir():
        task = "e2e-nlg:train=validation:inputs=30:beams=1:max_new_tokens=30"
        return {"E2E": Setting(STARTER, task, seeds=2, steps=20, batch_size=4)}
    task = "xsum-1k:inputs=30:beams=1:max_new_tokens=30"
    return {"xsum-1k (for E2E)": Setting(STARTER, task, seeds=2, steps=20, batch_size=4, max_length=96)}


def metrics_of(one: Scored) -> list[str]:
    """Every metric of what was written, then the loss on the references."""
    names = next(iter(one.scores.values())).figures
    primary = one.metric["name"]
    return sorted(names, key=lambda name: (name != primary, name == "nll"))


CPU_CAPTION = (
    "At this scale generation means 30 inputs, greedy, at most 30 new tokens; a language model of 135M parameters from a 4-bit file, "
    "trained for 20 steps of 4 rows with 2 seeds."
)
