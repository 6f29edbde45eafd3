"""`peftbench compare`: pairs by seed and item, refuses what is not comparable, and its gate has three outcomes."""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats as scipy_stats

from peftbench import UsageError
from peftbench.records.record import Record
from peftbench.records.results import Result
from peftbench.records.runs import Run
from peftbench.records.store import RECORD
from peftbench.render.pairs import check_comparable, pairs_text
from peftbench.stats.estimate import ALPHA, Estimate, Part
from peftbench.stats.power import half_width_at, seeds_that_decide
from peftbench.tables.gate import FAILED, INCONCLUSIVE, PASSED, Verdict, judge, limit_of, status_of
from peftbench.tables.pairs import Pair, Paired, pair

from ..support.commands import peftbench
from ..support.results import ENVIRONMENT, STRANGE, result


@pytest.fixture
def runs(make_run: Callable[..., Run], tmp_path: Path) -> Callable[..., list[Result]]:
    """Three seeds of two methods on one side; every figure can be moved."""

    def made(side: str, lora: float = 0.80, step_s: float = 0.05, **changes: Any) -> list[Result]:
        found = []
        for method, share in (("lora", lora), ("full", 0.85)):
            for seed in range(3):
                one = result(make_run(method, seed=seed), tmp_path / side, share, noise=seed)
                training = {
                    **(one.record.training or {}),
                    "step_s": [step_s * (1 + 0.01 * ((7 * seed + len(side)) % 3))] * 20,
                }
                found.append(
                    dataclasses.replace(
                        one, record=dataclasses.replace(one.record, training=training, **changes)
                    )
                )
        return found

    return made


def latency(make_run: Callable[..., Run], times: tuple[float, ...]) -> list[Result]:
    """A process for each time, in which the base takes 10 ms."""
    found = []
    for process, ms in enumerate(times):
        run = make_run("lora", seed=process, kind="latency")
        cell = {"batch": 1, "length": 8, "ms": {"base": [10.0] * 40, "lora": [ms] * 40}, "refusal": None}
        found.append(Result(Record(run, run.key, "ok", latency=[cell], environment=ENVIRONMENT), None))
    return found


def of(paired: Paired, method: str) -> Pair:
    return next(one for one in paired.pairs if one.method == method)


def test_what_ran_beside_matters_where_steps_were_timed_beside_it(
    runs: Callable[..., list[Result]], make_run: Callable[..., Run]
) -> None:
    a, b = (runs(side, environment={**ENVIRONMENT, "jobs": jobs}) for side, jobs in (("a", 1), ("b", 2)))
    assert pair(a, b).unlike == ("jobs 1 in A, 2 in B",)
    steps, there = a[0].record.training, {**ENVIRONMENT, "jobs": 1}
    costs = [make_run(method, kind="profile") for method in ("lora", "full")]
    alone = [Result(Record(r, r.key, "ok", training=steps, environment=there), None) for r in costs]
    assert not pair([*a, *alone], [*b, *alone]).unlike and pair([*a, *alone], b).unlike


def test_a_difference_is_paired_by_seed_and_item(runs: Callable[..., list[Result]]) -> None:
    paired = pair(runs("a"), runs("b", lora=0.77))
    lora, full = of(paired, "lora"), of(paired, "full")
    (change,) = (figure.change for figure in lora.named("score"))
    # The items that B loses are the same in each seed: no spread over seeds, and over 50 groups the sums are known.
    e = np.where((np.arange(200) % 100 >= 77) & (np.arange(200) % 100 < 80), -1.0, 0.0)
    shifted = np.mean([np.roll(e, seed) for seed in range(3)], axis=0)
    assert change.value == pytest.approx(-0.03) and change.variance is not None
    sums = np.array([shifted[np.arange(200) % 50 == g].sum() - shifted.mean() * 4 for g in range(50)])
    assert change.variance == pytest.approx(50 / 49 * (sums**2).sum() / 200**2)
    assert (lora.seeds, lora.seeds_a, lora.seeds_b) == (3, 3, 3)
    assert full.named("accuracy")[0].change.value == 0 and full.p_holm == 1.0
    # Holm over the two pairs: the smaller p is doubled.
    assert lora.p_holm == pytest.approx(2 * (change.p_two_sided() or 0))
    assert not paired.unlike and not paired.also and not paired.only_a and not paired.only_b


def test_costs_are_ratios_over_seeds(runs: Callable[..., list[Result]]) -> None:
    (step,) = of(pair(runs("a"), runs("bb", step_s=0.1)), "lora").named("step")
    # Factors of the seeds: 1.01, 1.02, 1.00 on side "a", 1.02, 1.00, 1.01 on side "bb".
    logs = np.log(2 * np.array([1.02 / 1.01, 1.00 / 1.02, 1.01 / 1.00]))
    half = scipy_stats.t.isf(0.025, 2) * logs.std(ddof=1) / math.sqrt(3)
    assert step.change.value == pytest.approx(logs.mean()) and step.change.half_width() == pytest.approx(half)
    (trained,) = of(pair(runs("c"), runs("d")), "lora").named("trained")
    assert trained.change.value == 0 and trained.change.half_width() == 0  # counted, not measured


def test_times_of_inference_are_compared_over_processes(
    runs: Callable[..., list[Result]], make_run: Callable[..., Run]
) -> None:
    a = runs("a") + latency(make_run, (11.0, 11.1, 11.2))
    b = runs("b") + latency(make_run, (12.1, 12.2, 12.3))
    found = of(pair(a, b), "lora")
    (ms,), (slow,) = found.named("latency"), found.named("slowdown")
    assert ms.change.value == pytest.approx(math.log(12.2 / 11.1), abs=1e-4)
    assert slow.change.value == pytest.approx(ms.change.value, abs=1e-4)  # the base took the same in both
    ours, theirs = np.log([12.1, 12.2, 12.3]), np.log([11.0, 11.1, 11.2])
    error = math.sqrt((ours.var(ddof=1) + theirs.var(ddof=1)) / 3)  # of three processes each: t of 2 df
    t = (ours.mean() - theirs.mean()) / error
    assert ms.change.p_two_sided() == pytest.approx(2 * scipy_stats.t.sf(t, 2))


def verdict(paired: Paired, *texts: str) -> list[Verdict]:
    return judge([limit_of(text) for text in texts], paired.pairs)


def test_the_gate_has_three_outcomes(runs: Callable[..., list[Result]]) -> None:
    same, worse = pair(runs("a"), runs("bb")), pair(runs("c"), runs("d", lora=0.60))
    slight = pair(runs("e"), runs("f", lora=0.79))
    for paired, text, outcome, status in (
        (same, "accuracy:-1.0", PASSED, 0),
        (same, "score:-1.0", PASSED, 0),
        (worse, "accuracy:-1.0", FAILED, 1),
        (worse, "accuracy:-30", PASSED, 0),
        (worse, "accuracy:-0", FAILED, 1),
        (worse, "accuracy:+1.0", PASSED, 0),  # a rise is what is forbidden
        (slight, "accuracy:-1.0", INCONCLUSIVE, 3),
        (same, "trained:+1%", PASSED, 0),
        (same, "step:+10%", PASSED, 0),
        (same, "step:+0.5%", INCONCLUSIVE, 3),
    ):
        (found,) = verdict(paired, text)
        assert found.outcome == outcome, (text, found)
        assert status_of([found]) == status
    (failed,) = verdict(worse, "accuracy:-1.0")
    assert "lora on" in failed.reasons[0] and "-20.0 ±" in failed.reasons[0]
    (open_,) = verdict(slight, "accuracy:-1.0")
    assert "seeds would" in open_.reasons[0]
    assert status_of(verdict(worse, "accuracy:-1.0", "step:+0.5%")) == 1 and status_of([]) == 0


def test_one_seed_decides_nothing(runs: Callable[..., list[Result]]) -> None:
    a, b = ([r for r in runs(side) if r.record.run.seed == 0] for side in "ab")
    (found,) = verdict(pair(a, b), "step:+10%")
    assert found.outcome == INCONCLUSIVE and "run 3 or more" in found.reasons[0]


def test_a_run_that_fails_in_b_alone_fails_the_gate(runs: Callable[..., list[Result]]) -> None:
    b = [
        dataclasses.replace(r, record=dataclasses.replace(r.record, status="failed", reason="killed"))
        if r.record.run.method == "lora"
        else r
        for r in runs("b")
    ]
    paired = pair(runs("a"), b)
    (found,) = verdict(paired, "accuracy:-1.0")
    assert found.outcome == FAILED and "3 of 3 runs of B failed: killed" in found.reasons[0]
    assert "killed" in pairs_text(paired, [], "a", "b")


def test_a_method_that_dies_without_a_word_in_b_fails_the_gate(runs: Callable[..., list[Result]]) -> None:
    """A killed run's record does not know where it ran, and is no reason to refuse the comparison."""
    b = [
        dataclasses.replace(
            r, record=Record(r.record.run, r.record.key, "failed", "killed", started_at="2030")
        )
        if r.record.run.method == "lora"
        else r
        for r in runs("b")
    ]
    paired = pair(runs("a"), b)
    check_comparable(paired, force=False)
    assert verdict(paired, "accuracy:-1.0")[0].outcome == FAILED


def test_an_older_source_of_a_method_does_not_stand_in_for_the_newer(
    runs: Callable[..., list[Result]],
) -> None:
    old, newer = runs("b"), []
    for one in runs("c"):
        if one.record.run.method == "lora":
            run = dataclasses.replace(one.record.run, identity={**one.record.run.identity, "method": "newer"})
            newer.append(Result(Record(run, run.key, "failed", "TypeError", started_at="2030"), None))
    (found,) = verdict(pair(runs("a"), [*old, *newer]), "accuracy:-1.0")
    assert found.outcome == FAILED and "TypeError" in found.reasons[0]
    # Of the newer source one seed is good: the older one's other two seeds are not mixed in.
    good = [
        dataclasses.replace(r, record=dataclasses.replace(r.record, run=other, started_at="2030"))
        for r in runs("d")
        if r.record.run.method == "lora" and r.record.run.seed == 0
        for other in [
            dataclasses.replace(r.record.run, identity={**r.record.run.identity, "method": "newer"})
        ]
    ]
    lora = of(pair(runs("e"), [*old, *good]), "lora")
    assert (lora.seeds, lora.seeds_a, lora.seeds_b) == (1, 3, 1)


def test_a_method_without_seeds_does_not_keep_the_gate_open(
    runs: Callable[..., list[Result]], make_run: Callable[..., Run], tmp_path: Path
) -> None:
    def head(side: str) -> Result:
        one = result(make_run("head", seed=0), tmp_path / side, 0.7, seedless=True)
        parameters = {**(one.record.parameters or {}), "adapter": 0, "stored_bytes": 0}
        return dataclasses.replace(one, record=dataclasses.replace(one.record, parameters=parameters))

    paired = pair([*runs("a"), head("a")], [*runs("b"), head("b")])
    for text in ("score:-1.0", "trained:+1%", "stored:+1%", "step:+10%", "peak:+5%"):
        (found,) = verdict(paired, text)
        assert found.outcome == PASSED, found
    (peak,) = verdict(paired, "peak:+5%")
    assert "not judged, because it runs once" in peak.reasons[-1] and "head" in peak.reasons[-1]


def test_what_a_has_and_b_lacks_is_not_passed(runs: Callable[..., list[Result]]) -> None:
    fewer = [r for r in runs("b") if r.record.run.method == "full"]
    paired = pair(runs("a"), fewer)
    (found,) = judge([limit_of("accuracy:-1.0")], paired.pairs, paired.only_a)
    assert found.outcome == INCONCLUSIVE and "only in A" in found.reasons[0] and "lora" in found.reasons[0]


def test_each_side_is_cut_by_its_settings_and_the_newest_pairs(
    runs: Callable[..., list[Result]], make_run: Callable[..., Run], tmp_path: Path
) -> None:
    """B holds five seeds at another budget, and newer runs of some seeds at A's: they are not mixed."""
    long = [
        result(make_run("lora", seed=seed, steps=500), tmp_path / "long", 0.95, noise=seed)
        for seed in range(5)
    ]
    paired = pair(runs("a"), [*long, *runs("b")])
    assert of(paired, "lora").seeds == 3 and not paired.unlike
    assert of(paired, "lora").named("score")[0].change.value == 0
    alone = pair([r for r in runs("c") if r.record.run.method == "lora"], long)
    assert any(said.startswith("steps ") for said in alone.unlike)


def test_latencies_of_another_type_or_execution_are_not_comparable(
    runs: Callable[..., list[Result]], make_run: Callable[..., Run]
) -> None:
    b = latency(make_run, (11.0, 11.1))
    for one in b:
        one.record.__dict__["run"] = dataclasses.replace(one.record.run, dtype="bfloat16")
    paired = pair(runs("a") + latency(make_run, (11.0, 11.1)), runs("b") + b)
    assert "dtype float32 in A, bfloat16 in B" in paired.unlike


def test_the_seeds_that_decide_are_those_of_the_gates_own_rule() -> None:
    """Room .018 with an item variance of 1e-4: where seeds of variance 1.5e-4 / k are enough, the one-sided bound is inside."""
    items = Part(1e-4, 1e6, of_items=True)
    room = Estimate(0.018, (Part(0.5e-4, 2.0), items), 3)
    needed = seeds_that_decide(room, 2 * ALPHA)
    assert needed is not None and 3 < needed <= 50
    assert (half_width_at(room, needed, 2 * ALPHA) or 1) <= 0.018
    assert (half_width_at(room, needed - 1, 2 * ALPHA) or 0) > 0.018
    two = Estimate(0.03, (Part(3e-4, 1.0),), 2)
    assert (seeds_that_decide(two, 2 * ALPHA) or 0) > 3  # t of 2 df is 2.9: three seeds would not do
    assert seeds_that_decide(Estimate(0.001, (items,), 3)) is None


def test_what_is_not_comparable_is_refused_and_named(runs: Callable[..., list[Result]]) -> None:
    a = runs("a")
    moved = {**ENVIRONMENT, "gpu": "a GPU", "driver": "575", "libraries": {"torch": "9"}}
    paired = pair(a, runs("b", environment=moved))
    with pytest.raises(UsageError, match="gpu none in A, a GPU in B; driver none in A, 575 in B; --force"):
        check_comparable(paired, force=False)
    check_comparable(paired, force=True)
    said = pairs_text(paired, [], "a", "b")
    assert (
        "compared with --force, although these differ: gpu none" in said
        and "also different: " in said
        and "torch 2.13 in A, 9 in B" in said
    )
    other = [
        dataclasses.replace(r, record=dataclasses.replace(r.record, run=changed(r.record.run)))
        for r in runs("c")
    ]
    with pytest.raises(UsageError, match=r"dtype float32 in A, bfloat16 in B; the task's version"):
        check_comparable(pair(a, other), force=False)
    with pytest.raises(
        UsageError, match="no run of A has exactly one partner in B .*: A has no training run"
    ):
        check_comparable(pair([], a), force=True)


def changed(run: Run) -> Run:
    return dataclasses.replace(run, dtype="bfloat16", identity={**run.identity, "task": "another"})


def test_other_items_are_compared_unpaired_by_force(runs: Callable[..., list[Result]]) -> None:
    a, b = runs("a"), runs("b")
    for one in b:
        assert one.folder is not None
        file = one.folder / "predictions.parquet"
        pd.read_parquet(file).iloc[:150].to_parquet(file)
    lora = of(pair(a, b), "lora")
    (figure,) = lora.named("score")
    assert figure.change.half_width() is not None and (figure.change.half_width() or 0) > 0.03


def test_items_of_other_data_are_never_taken_for_the_same(runs: Callable[..., list[Result]]) -> None:
    """As many of them, in the same groups: still others."""
    a, b = runs("a"), runs("b")
    same = pair(a, b)
    others = [
        dataclasses.replace(
            one,
            record=dataclasses.replace(
                one.record,
                run=dataclasses.replace(
                    one.record.run, identity={**one.record.run.identity, "data": "another"}
                ),
            ),
        )
        for one in b
    ]
    paired = pair(a, others)
    (before,), (now,) = of(same, "lora").named("score"), of(paired, "lora").named("score")
    assert (now.change.half_width() or 0) > 2 * (before.change.half_width() or 0)
    assert "the items differ, so scores are not paired" in pairs_text(paired, [], "a", "b")
    assert "the items differ" not in pairs_text(same, [], "a", "b")


def test_the_comparison_is_golden_and_strange_names_stay_text(
    runs: Callable[..., list[Result]], make_run: Callable[..., Run]
) -> None:
    a = runs("a") + latency(make_run, (11.0, 11.1, 11.2))
    b = runs("b", lora=0.77, step_s=0.06) + latency(make_run, (11.0, 11.2, 11.3))
    paired = pair(a, b)
    said = pairs_text(paired, verdict(paired, "accuracy:-1.0", "peak:+5%"), "before", "after")
    golden = Path(__file__).with_name("golden_compare.md")
    if os.environ.get("UPDATE_GOLDEN"):
        golden.write_text(said, encoding="utf-8")
    assert said == golden.read_text(encoding="utf-8")
    strange = dataclasses.replace(
        paired,
        pairs=tuple(
            dataclasses.replace(p, method=STRANGE, task=STRANGE, model=STRANGE, problem=STRANGE)
            for p in paired.pairs
        ),
        only_a=(STRANGE,),
    )
    said = pairs_text(strange, [], STRANGE, STRANGE)
    assert "<script" not in said and "\x1b" not in said and "\x00" not in said


def test_limits_that_make_no_sense_say_what_to_write(runs: Callable[..., list[Result]]) -> None:
    for text in ("accuracy", "accuracy:1.0", "accuracy:-", "latency:5%", ":-1", "a:-1..0", "a:b:-1"):
        with pytest.raises(UsageError, match="METRIC:CHANGE with a sign"):
            limit_of(text)
    with pytest.raises(UsageError, match="above -100%"):
        limit_of("step:-100%")
    assert limit_of("accuracy (matched):-1.0").name == "accuracy (matched)"
    paired = pair(runs("a"), runs("b"))
    for text, said in (
        ("acuracy:-1", "did you mean 'accuracy'"),
        ("step:+5", r"write step:\+5%"),
        ("accuracy:-1%", "write accuracy:-1.0"),
    ):
        with pytest.raises(UsageError, match=said):
            verdict(paired, text)


def test_the_program_compares_stores_and_exits_with_the_verdict(
    runs: Callable[..., list[Result]], tmp_path: Path
) -> None:
    stores = []
    for name, share in (("a", 0.8), ("b", 0.5)):
        store = tmp_path / f"store-{name}"
        for one in runs(name, lora=share):
            assert one.folder is not None
            (store / one.record.key).mkdir(parents=True)
            one.folder.rename(store / one.record.key / "0001")
            (store / one.record.key / "0001" / RECORD).write_text(one.record.to_text(), encoding="utf-8")
        stores.append(str(store))
    a, b = stores
    passed = peftbench("compare", a, a, "--fail-on", "accuracy:-1.0", cwd=tmp_path)
    assert passed.returncode == 0 and "✔ **accuracy:-1.0** passed" in passed.stdout
    failed = peftbench(
        "compare", a, b, "--fail-on", "accuracy:-1.0", "--out", str(tmp_path / "out.md"), cwd=tmp_path
    )
    assert failed.returncode == 1 and "✘ **accuracy:-1.0** failed" in (tmp_path / "out.md").read_text()
    one_run = next(Path(a).glob("*/0001"))
    alone = peftbench("compare", str(one_run), str(one_run / RECORD), "--fail-on", "step:+5%", cwd=tmp_path)
    assert alone.returncode == 3 and "inconclusive" in alone.stdout
    (tmp_path / "table.json").write_text("[]", encoding="utf-8")
    for other, said in (
        (tmp_path / "table.json", "is no record of a run"),
        (tmp_path / "none", "there is no store"),
    ):
        wrong = peftbench("compare", a, str(other), cwd=tmp_path)
        assert wrong.returncode == 2 and said in wrong.stderr and len(wrong.stderr.splitlines()) == 1
