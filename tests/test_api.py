"""The Python door takes what the command line takes, and refuses what it refuses, in the same words."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import peftbench
from peftbench import UsageError
from peftbench.comparison.request import Comparison
from peftbench.engine.sweep import Execution
from peftbench.option import read


def test_values_of_other_kinds_are_taken_for_what_they_are() -> None:
    given = {"methods": "lora", "model": Path("a/bert"), "task": ["synthetic"], "seeds": np.int64(2), "lr": np.float32(0.5)}  # fmt: skip
    asked = read(Comparison, given)
    assert (asked.methods, asked.models, asked.tasks) == (("lora",), ("a/bert",), ("synthetic",))
    assert (asked.seeds, asked.learning_rate) == (2, 0.5) and type(asked.seeds) is int
    assert read(Comparison, {"model": [Path("a"), "b"]}).models == ("a", "b")
    assert read(Comparison, {"train_size": np.array(9)}).train_sizes == (9,)
    assert read(Execution, {"timeout": np.int64(3)}).timeout_s == 3.0


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"methods": 3}, "--methods must be a list"),
        ({"methods": [3]}, "--methods must be text"),
        ({"methods": np.array("lora")}, "--methods must be a list"),
        ({"methods": {"lora": {"rank": 4}}}, "--methods must be a list"),
        ({"model": 3}, "--model must be a list"),
        ({"seeds": 1.5}, "--seeds must be a whole number"),
        ({"seeds": True}, "--seeds must be a whole number"),
        ({"lr": float("nan")}, "--lr must be a number"),
        ({"lr": 10**400}, "--lr must be a number"),
        ({"device": "mps"}, "unknown value of --device: 'mps'"),
        ({"dtype": "float16"}, "unknown value of --dtype: 'float16'"),
        ({"timeout": -1}, "--timeout must be above 0 seconds"),
        ({"curve": -3}, "--curve must be 0 or more"),
        ({"store": ""}, "--store '' names no file or folder"),
        ({"store": "a\0b"}, "names no file or folder"),
        ({"store": 3}, "--store must be a path"),
        ({"plugins": 3}, "--plugins must be a list"),
        ({"plugins": [""]}, "--plugins '' names no file or folder"),
        ({"data_dir": "absent"}, "--data-dir 'absent' is not a folder"),
        ({"baselines": "no"}, "--baselines must be True or False"),
        ({"budget": ["quick"]}, "--budget must be text"),
        ({"latency_grid": [(1, 2, 3)]}, "is not BATCHxLENGTH"),
        ({"train_size": {"a": 1}}, "is not a number of items"),
        ({"method": "lora"}, "unknown option 'method'; did you mean 'methods'"),
        ({"format": "json"}, "returns a DataFrame"),
    ],
)
def test_mistakes_have_the_words_of_the_command_line(given: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        peftbench.run(**given)
