"""What device and data types a request means."""

from __future__ import annotations

import pytest

from peftbench.engine.protocol import Device
from peftbench.errors import UsageError
from peftbench.models.resolve import resolve_model
from peftbench.planning.devices import resolve_dtype, resolve_weights

CPU, GPU = Device("cpu", 1, 2**34, False), Device("cuda", 1, 2**34, True)


def test_which_data_types_a_request_means() -> None:
    source = resolve_model("tiny-decoder")
    assert resolve_weights("auto", CPU, "float32", source) == "float32"
    assert resolve_weights("auto", GPU, "bfloat16", source) == "float32"  # as the checkpoint is
    assert resolve_dtype("auto", CPU, "bfloat16") == "bfloat16"
    assert resolve_weights("bfloat16", CPU, "bfloat16", source) == "bfloat16"
    with pytest.raises(UsageError, match="leave --dtype out"):
        resolve_weights("bfloat16", CPU, "float32", source)
