"""What device and data types a request means."""

from __future__ import annotations

import pytest

from peftbench.comparison.request import Comparison
from peftbench.engine.protocol import Capacity, Device
from peftbench.errors import UsageError
from peftbench.models.resolve import resolve_model
from peftbench.planning.devices import resolve_dtype, resolve_weights
from peftbench.planning.plan import plan

CPU, GPU = Device("cpu", 1, 2**34, False), Device("cuda", 1, 2**34, True)


def test_which_data_types_a_request_means() -> None:
    source = resolve_model("tiny-decoder")
    assert resolve_weights("auto", CPU, "float32", source) == "float32"
    assert resolve_weights("auto", GPU, "bfloat16", source) == "float32"  # as the checkpoint is
    assert resolve_dtype("auto", CPU, "bfloat16") == "bfloat16"
    assert resolve_weights("bfloat16", CPU, "bfloat16", source) == "bfloat16"
    with pytest.raises(UsageError, match="leave --dtype out"):
        resolve_weights("bfloat16", CPU, "float32", source)


def test_threads_are_of_a_cpu() -> None:
    with pytest.raises(UsageError, match="--threads is of runs on a CPU, and these would be on cuda"):
        plan(Comparison(threads=4), Capacity((GPU, CPU), cores=4))
