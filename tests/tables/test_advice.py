"""`report --advise`: limits are kept, the best set is formed anew inside them, and what is undecided says so."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from peftbench import UsageError
from peftbench.cli.app import main
from peftbench.records.results import Result
from peftbench.records.runs import Run
from peftbench.render.advice import advice_text
from peftbench.stats.estimate import Estimate, Part
from peftbench.stats.power import seeds_that_decide
from peftbench.stats.sequential import SeedSchedule
from peftbench.tables.advice import advise_on, limits_of

from ..support.results import result


@pytest.fixture
def results(make_run: Callable[..., Run], tmp_path: Path) -> list[Result]:
    """Three methods on one task, clearly apart, three seeds; `result` gives all of them a peak of 500 MB."""
    return [
        result(make_run(method, seed=seed), tmp_path, share, noise=seed)
        for method, share in (("full", 0.9), ("lora", 0.75), ("bitfit", 0.5))
        for seed in range(3)
    ]


def test_without_limits_the_best_is_named(results: list[Result]) -> None:
    (advice,) = advise_on(results, "full", {})
    said = advice_text([advice])
    assert "use full: 9" in said and "better than every other one inside the limits" in said
    assert "behind: " in said and not advice.excluded and advice.undecided is None


@pytest.mark.parametrize(("seeds", "group", "why"), [
    ((range(3), range(3)), "a", "all test items are in one group"),
    ((range(1), range(1)), None, "one seed can't show"),
    ((range(2), range(2, 4)), None, "no two methods have two seeds in common"),
])  # fmt: skip
def test_where_nothing_is_tested_no_method_is_the_best(
    seeds: tuple[range, range], group: str | None, why: str, make_run: Callable[..., Run], tmp_path: Path
) -> None:
    """The first by its name was."""
    results = [
        result(make_run(method, seed=seed), tmp_path, share, noise=seed)
        for method, share, its in (("bitfit", 0.3, seeds[0]), ("lora", 0.9, seeds[1]))
        for seed in its
    ]
    for file in tmp_path.glob("*/predictions.parquet") if group else ():
        pd.read_parquet(file).assign(group=group).to_parquet(file)
    said = advice_text(advise_on(results, "full", {}))
    assert why in said and "they are bitfit 3" in said and "use " not in said and "behind" not in said


def test_the_best_set_is_formed_inside_the_limits(
    results: list[Result], make_run: Callable[..., Run], tmp_path: Path
) -> None:
    others = [r for r in results if r.record.run.method != "full"]
    heavy, folder = [], tmp_path / "heavy"
    folder.mkdir()
    for seed in range(3):
        one = result(make_run("full", seed=seed), folder, 0.9, noise=seed)
        memory = {"train": {**(one.record.memory or {})["train"], "peak_above_model_bytes": 900_000_000}}  # type: ignore[dict-item]
        one.record.__dict__["memory"] = {**(one.record.memory or {}), **memory}
        heavy.append(one)
    (advice,) = advise_on([*others, *heavy], "full", {"peak": 600e6})
    said = advice_text([advice])
    assert "use lora: 7" in said and "full: train peak 900 MB, above 600 MB" in said
    (nothing,) = advise_on([*others, *heavy], "full", {"peak": 1e6})
    assert nothing.left is None and "no method is inside the limits" in advice_text([nothing])


def test_what_was_not_measured_is_not_judged(results: list[Result]) -> None:
    (advice,) = advise_on(results, "full", {"slowdown": 0.02})
    assert advice.left is None and len(advice.unknown) == 3
    assert "not measured, so not judged: lora: slow-down" in advice_text([advice])


def test_what_is_undecided_says_how_many_seeds_would_decide(
    make_run: Callable[..., Run], tmp_path: Path
) -> None:
    both = [
        result(
            make_run(method, seed=seed), tmp_path, share + 0.04 * (seed - 1) * (1 if method == "lora" else -1)
        )
        for method, share in (("full", 0.80), ("lora", 0.78))
        for seed in range(3)
    ]
    said = advice_text(advise_on(both, "full", {}))
    assert "these can't be told from the best: " in said and "the cheapest of them to store is" in said
    assert "seeds" in said
    one_seed = [r for r in both if r.record.run.seed == 0]
    assert "one seed can't show a difference between methods" in advice_text(advise_on(one_seed, "full", {}))


def test_a_rate_keeps_its_name_where_another_one_is_excluded(
    results: list[Result], make_run: Callable[..., Run], tmp_path: Path
) -> None:
    other = [
        result(make_run("full", seed=seed, learning_rate=0.5), tmp_path, 0.95, noise=seed, merge="fail")
        for seed in range(3)
    ]
    said = advice_text(advise_on([*results, *other], "lora", {}))
    assert "use full at 0.01: " in said and "full at 0.5: fails its check 'merge'" in said


def test_runs_of_another_table_are_not_mixed_in(make_run: Callable[..., Run], tmp_path: Path) -> None:
    """The same methods and seeds under another attention, or of an older source, in the same store: each advice is from its own runs."""
    own = [
        result(make_run(method, seed=seed), tmp_path, share + 0.04 * (seed - 1) * side)
        for method, share, side in (("full", 0.80, -1), ("lora", 0.78, 1))
        for seed in range(3)
    ]
    others = [
        result(make_run(method, seed=seed, attention="eager"), tmp_path, 0.5 + 0.1 * seed)
        for method in ("full", "lora")
        for seed in range(3)
    ]
    (alone,) = advise_on(own, "full", {})
    mixed = next(a for a in advise_on([*own, *others], "full", {}) if a.table.settings["attention"] is None)
    assert alone.undecided is not None and mixed.undecided == alone.undecided
    older = [
        result(
            make_run("lora", seed=seed, identity={**own[3].record.run.identity, "method": "0"}), tmp_path, 0.1
        )
        for seed in range(3)
    ]
    (newer,) = advise_on([*older, *own], "full", {})
    assert newer.undecided == alone.undecided
    # A rule for adding seeds leaves each look a part of the error.
    rule = SeedSchedule(1.0, 3, 9)
    (looked_at,) = advise_on(
        [
            dataclasses.replace(r, record=dataclasses.replace(r.record, sequence=dataclasses.asdict(rule)))
            for r in own
        ],
        "full",
        {},
    )
    assert looked_at.undecided is not None and looked_at.undecided.alpha == rule.alpha(3)


def test_seeds_shrink_their_own_part_alone() -> None:
    def difference(seed_variance: float, item_variance: float) -> Estimate:
        return Estimate(0.05, (Part(seed_variance / 3, 2.0), Part(item_variance, 1e6, of_items=True)), 3)

    # t(.975, n - 1) sqrt(.006 / n): .0520 at 11 seeds (t 2.228), .0492 at 12 (t 2.201).
    assert seeds_that_decide(difference(0.006, 0.0)) == 12
    assert seeds_that_decide(difference(0.006, 0.0007)) is None  # the items alone are too coarse
    assert seeds_that_decide(difference(1.0, 0.0)) is None


def test_limits_in_words() -> None:
    words = {"peak": "16GB", "slowdown": "2%", "stored": "10 MB", "trained": "1,000", "energy": "20 mJ"}
    assert limits_of(words) == {
        "peak": 16e9,
        "slowdown": 0.02,
        "stored": 10e6,
        "trained": 1000.0,
        "energy": 0.02,
    }
    assert limits_of({"peak": "1GiB", "stored": None}) == {"peak": 2**30}
    for name, text, said in (
        ("peak", "x", "--max-vram 'x' is not a size"),
        ("peak", "3 parsecs", "is not a size"),
        ("peak", "8", "'8' is not a size; write it as in 16GB"),  # gigabytes, to whoever types it
        ("energy", "20", "is not an energy"),
        ("slowdown", "2", "is not a share"),
        ("slowdown", "x%", "is not a number"),
        ("energy", "2MJ", "is not an energy"),  # mega or milli?
    ):
        with pytest.raises(UsageError, match=said):
            limits_of({name: text})


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--max-vram", "16GB"], "belong to --advise"),
        (["--advise", "--format", "csv"], "--advise answers in words"),
        (["--advise", "--sort", "peak"], "--advise answers in words"),
    ],
)
def test_what_does_not_go_together_is_a_mistake(
    words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["report", *words])
    assert ended.value.code == 2 and said in capsys.readouterr().err
