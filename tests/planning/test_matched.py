"""Methods at one size: each by its own field, counted on the model, and a row that says so where none is near."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from peftbench.comparison.request import Comparison
from peftbench.engine.protocol import Capacity, Device
from peftbench.errors import UsageError
from peftbench.planning.matched import nearest, size_field
from peftbench.planning.plan import plan
from peftbench.records.runs import Planned

CAPACITY = Capacity((Device("cpu", 1, 2**34, False),), cores=1)


@pytest.mark.parametrize(
    ("figure_of", "target", "size"),
    [
        (lambda n: 100 * n, 420, 4),
        (lambda n: 100 * n, 460, 5),
        (lambda n: 100 * n, 3, 1),
        (lambda n: 1_000 + 7 * n, 10_000, 1286),
        (lambda n: n * n, 1_000_000, 1000),  # no straight line
        (lambda n: 5 if n < 64 else 50 * n, 5_000, 100),  # flat at first
    ],
)
def test_the_nearest_size_is_found_in_few_counts(
    figure_of: Callable[[int], int], target: int, size: int
) -> None:
    asked: list[int] = []

    def counted(n: int) -> int:
        asked.append(n)
        return figure_of(n)

    assert nearest(counted, target) == size
    assert len(set(asked)) < 40


def planned(methods: str, **words: Any) -> dict[str, Planned]:
    asked = Comparison(
        tuple(methods.split(",")), models=("tiny-encoder",), tasks=("synthetic",), latency_grid=(), profile=False, seeds=1, **words
    )  # fmt: skip
    return {item.run.method: item for item in plan(asked, CAPACITY)}


def test_each_method_grows_by_its_own_field() -> None:
    """Within half of what one more of it would add; `full` and `head` are what they are."""
    found = planned("lora,adapter,lora:targets=query,prompt", match="params=5k")
    assert all(item.run.match == "params=5k" for item in found.values() if not item.baseline)
    assert found["full"].run.match is None and found["head"].run.match is None
    sized = {name: item.adapter_parameters for name, item in found.items() if not item.baseline}
    assert len(sized) == 4 and all(abs((count or 0) / 5_000 - 1) < 0.1 for count in sized.values()), sized
    same = planned(",".join(sized), baselines=False)
    assert {name: item.adapter_parameters for name, item in same.items()} == sized
    assert {item.run.key for item in same.values()} == {found[name].run.key for name in sized}


def test_what_comes_no_nearer_is_a_row_that_says_so() -> None:
    found = planned("lora,bitfit,lora:targets=query", match="params=500")
    assert found["bitfit"].refusal == (
        "bitfit comes to 608, +21.6% of 500 trained parameters; it has no field to be sized by, and --match takes what is within 10%"
    )
    prefix = planned("lora,prefix", match="params=5k")["prefix:length=1"]
    assert (prefix.refusal or "").endswith(
        "; there is no smaller length, and --match takes what is within 10%"
    )
    assert found["lora:rank=2"].refusal is None and found["lora:rank=4:targets=query"].refusal is None


def test_bytes_stored_are_those_of_the_numbers() -> None:
    (item,) = (i for i in planned("lora", match="stored=8kB").values() if not i.baseline)
    assert item.run.method == "lora" and item.adapter_parameters == 2_048


def test_a_size_that_is_said_is_not_sought() -> None:
    with pytest.raises(UsageError, match="--match sizes lora by its rank, and 'lora:rank=4' sets that"):
        planned("lora:rank=4", match="params=5k")


def test_the_table_says_how_near_each_came(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from peftbench.cli.app import main

    with pytest.raises(SystemExit):
        main(
            "run --methods lora,adapter,bitfit --match params=5k --model tiny-encoder --task synthetic --steps 2 --seeds 1 --no-profile "
            f"--latency-grid none --no-baselines --engine inline --quiet --format markdown --store {tmp_path / 'runs'}".split()
        )
    said = capsys.readouterr().out
    sized = (
        "adapter-h:bottleneck=19 5,068 (+1.4%), lora:rank=20 5,120 (+2.4%). The other rows are as they are."
    )
    assert f"Sized to 5,000 trained parameters by a field of each method: {sized}" in said
    assert "bitfit comes to 608, -87.8% of 5,000 trained parameters" in said


def test_which_field_it_is() -> None:
    assert (size_field("lora"), size_field("adapter"), size_field("prefix"), size_field("bitfit")) == (
        "rank", "bottleneck", "length", None,
    )  # fmt: skip
