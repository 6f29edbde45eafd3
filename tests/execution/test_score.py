"""A scorer asks of a model what its objective says."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest

from peftbench import Chat
from peftbench.execution import batches, score
from peftbench.execution.generate import Written
from peftbench.execution.train import accelerator_for
from peftbench.models.load import load_model
from peftbench.models.resolve import resolve_model
from peftbench.objectives.chat import source_text
from peftbench.objectives.chat_template import Conversation


def test_it_writes_up_to_the_ends_that_its_objective_names(
    checkpoint: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    chat = Chat(template="{% for m in messages %}{{ m.role }}{{ m.content }}[CLS]{% endfor %}")
    loaded = load_model(resolve_model(checkpoint("llama")), chat, 0)
    asked = source_text(Conversation(({"role": "user", "content": "Hi"},)))
    told = chat.encode(loaded.tokenizer, {"source": [asked], "target": ["Yes"]}, 100)
    lists = {
        name: batches.Ragged(np.array(told[name][0]), np.array([0, len(told[name][0])]))
        for name in ("input_ids", "labels")
    }
    split = batches.Encoded(lists, {"source_tokens": np.array(told["source_tokens"])})
    ends: list[Any] = []

    def written(*given: Any) -> Written:
        ends.append(given[-1])
        return Written(["Yes"], 1, 1, 0)

    monkeypatch.setattr(score, "generate", written)
    accelerator = accelerator_for("cpu", "float32")
    scorer = score.Scorer(loaded.model, chat, loaded.tokenizer, accelerator, 4)
    scorer.write(split, pd.DataFrame({"item": [0]}))
    assert ends == [[loaded.tokenizer.cls_token_id]]
