"""What a comparison may ask beside methods, models and tasks: fewer training items, attention, activations computed again."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from peftbench import UsageError, defaults
from peftbench.comparison.compare import planned_runs as plan_by
from peftbench.comparison.latency_request import LatencyRequest
from peftbench.comparison.request import Comparison, check_request
from peftbench.engine.jobs import Execute
from peftbench.engine.named import engine_named
from peftbench.engine.protocol import Capacity, Device
from peftbench.engine.sweep import _refused
from peftbench.errors import NotSupported
from peftbench.execution import prepare
from peftbench.execution.execute import execute
from peftbench.jobs import do
from peftbench.measure.environment import capacity
from peftbench.objectives.text_metrics import TEXT_METRICS
from peftbench.planning import feasibility
from peftbench.planning.latency import plan_latency
from peftbench.planning.plan import _refusal, plan
from peftbench.plugins import build
from peftbench.records.record import Record
from peftbench.records.runs import Conditions, Planned, Run
from peftbench.records.store import Store, Stored

from ..support.plan import Make, sized


def encoded(run: Run) -> Any:
    loaded = prepare.load_base(run, prepare.objective_of(run), "meta")
    return prepare.encode(run, build.build_task(run.task), loaded.tokenizer)


def test_fewer_items_are_the_same_for_all_and_among_the_more(make_run: Make) -> None:
    def texts(run: Run, items: int | None) -> set[tuple[int, ...]]:
        tokens = encoded(sized(run, items))["train"].lists["input_ids"]
        return {tuple(tokens.some(np.array([i])).values) for i in range(len(tokens.lengths))}

    run = make_run(task="synthetic")
    few, more, all_of_them = (texts(run, items) for items in (10, 40, None))
    assert len(few) == 10 and len(more) == 40 and few < more < all_of_them
    for other in (make_run("full", task="synthetic"), make_run(seed=7, task="synthetic")):
        assert texts(other, 10) == few
    whole, part = encoded(run), encoded(sized(run, 10))
    assert len(part["test"]) == len(whole["test"]) and len(part["validation"]) == len(whole["validation"])
    with pytest.raises(NotSupported, match="the training split of synthetic has 512 items"):
        encoded(sized(run, 513))


def test_defaults_leave_old_keys_alone(make_run: Make) -> None:
    run = make_run()
    old = run.to_json()
    del (
        old["attention"],
        old["checkpointing"],
        old["optimizer"],
        old["packing"],
        old["compile"],
        old["threads"],
        old["budget"]["train_items"],
        old["budget"]["scored_items"],
    )
    assert Run.from_json(old) == run
    keys = {
        r.key
        for r in (
            run,
            sized(run, 5),
            *(
                dataclasses.replace(run, **c)
                for c in (
                    {"attention": "eager"},
                    {"checkpointing": True},
                    {"packing": True},
                    {"optimizer": "adamw-8bit"},
                )
            ),
        )
    }
    assert len(keys) == 6


def test_compiling_is_part_of_one_cost_run_and_of_no_other_run() -> None:
    asked = Comparison(
        ("lora",), models=("tiny-encoder",), tasks=("synthetic",), cost_runs=2, latency_grid=((1, 8),)
    )
    plain, compiled = (
        plan(dataclasses.replace(asked, compile=compile), capacity()) for compile in (False, True)
    )
    apart = [b.run for a, b in zip(plain, compiled, strict=True) if a.run.key != b.run.key]
    assert {(run.kind, run.seed, run.compile) for run in apart} == {("profile", 0, True)}


def test_a_size_has_its_runs_and_costs_are_measured_once() -> None:
    asked = Comparison(
        ("lora",),
        models=("tiny-encoder",),
        tasks=("synthetic",),
        train_sizes=(20, None, 4),
        seeds=2,
        baselines=False,
    )
    with engine_named() as engine:
        planned = plan_by(asked, engine)
    found = [(item.run.kind, item.run.budget.train_items) for item in planned]
    # Four items fill no batch: a step of theirs is another one.
    trained = [("training", size) for size in (20, None, 4) for _ in range(2)]
    costs = [("profile", None), ("profile", 4)]
    assert sorted(found, key=str) == sorted([*trained, *costs, *[("latency", None)] * 3], key=str)
    for wrong, said in (((1,), "must be 2 or more"), ((), "is empty")):
        with pytest.raises(UsageError, match=said):
            check_request(dataclasses.replace(asked, train_sizes=wrong))


def test_methods_share_their_latency_processes_in_whatever_order_they_are_asked_for() -> None:
    """And with whatever time: neither is in their keys. `ln` has the base's own pass, which is not timed."""
    found = {}
    for methods, budget_s in ((("lora", "ln", "adapter-h"), 60.0), (("adapter-h", "lora"), 30.0)):
        asked = Comparison(
            methods, ("tiny-encoder",), ("synthetic",), baselines=False, latency_budget_s=budget_s
        )
        timed = [item.run for item in plan(asked, capacity()) if item.run.kind == "latency"]
        assert [(run.method, run.seed) for run in timed] == [("adapter-h,lora", seed) for seed in range(3)]
        found[budget_s] = {run.key for run in timed}
        assert {run.grid.budget_s for run in timed if run.grid} == {budget_s / 3}
    assert found[60.0] == found[30.0]


def test_a_refused_method_stands_in_the_table_of_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a large model, whose runs have all cores: threads tell tables apart."""
    monkeypatch.setattr(defaults, "SMALL_MODEL", 0)
    monkeypatch.setattr(
        feasibility, "why_not_fitting", lambda one, *rest: None if one.adaptation.swaps else "too large"
    )
    asked = Comparison(
        ("lora", "full"), ("tiny-encoder",), ("synthetic",), baselines=False, latency_grid=(), profile=False
    )
    planned = plan(asked, Capacity((Device("cpu", 1, 10**9, False),), 2))
    assert {item.run.method: item.refusal for item in planned} == {"lora": None, "full": "too large"}
    assert {item.run.threads for item in planned} == {2}


def test_attention_is_the_one_that_is_asked_for(make_run: Make, checkpoint: Callable[[str], str]) -> None:
    for model in ("tiny-encoder", "tiny-decoder", checkpoint("gpt2")):
        outputs = []
        for attention in ("eager", "sdpa"):
            run = make_run(model=model, attention=attention)
            prepared = prepare.prepare(run, prepare.objective_of(run), "cpu")
            config: Any = prepared.adaptation.model.config
            assert config._attn_implementation == attention
            ids = torch.arange(5, 29).view(3, 8)
            outputs.append(
                prepared.adaptation.model(input_ids=ids, attention_mask=torch.ones_like(ids)).logits
            )
        # The same sums in another order: float32 rounding, of logits of order 1.
        torch.testing.assert_close(*outputs, atol=1e-4, rtol=1e-4)
    run = make_run("prefix", attention="eager")
    with pytest.raises(NotSupported, match="a prefix needs attention of the kind sdpa, not eager"):
        prepare.prepare(run, prepare.objective_of(run), "meta")
    run = make_run(attention="nonsense")
    with pytest.raises(UsageError, match="--attention 'nonsense' does not go with 'tiny-encoder'"):
        prepare.prepare(run, prepare.objective_of(run), "meta")


@pytest.mark.parametrize("method", ["lora", "prefix", "full"])
def test_activations_computed_again_change_memory_and_nothing_else(
    method: str, make_run: Make, tmp_path: Path
) -> None:
    records: list[Record] = []
    for checkpointing in (False, True):
        out = tmp_path / str(checkpointing)
        out.mkdir()
        run = make_run(method, model="tiny-decoder", steps=3, checkpointing=checkpointing)
        records.append(execute(run, out, Conditions()))
        inside = execute(dataclasses.replace(run, kind="profile"), out, Conditions())
        records.append(inside)
    kept, kept_inside, again, again_inside = records
    assert kept.training is not None and again.training is not None
    assert again.training["losses"] == pytest.approx(kept.training["losses"], rel=1e-5)
    assert again.quality == pytest.approx(kept.quality, rel=1e-4)
    assert not [c for c in again.checks or () if c["outcome"] == "fail"]
    assert kept_inside.profile is not None and again_inside.profile is not None
    by_kind = "memory_by_kind"
    # Two blocks' activations are left out; the head's and the embedding's stay.
    assert (
        again_inside.profile[by_kind]["activations_bytes"]
        < 0.8 * kept_inside.profile[by_kind]["activations_bytes"]
    )
    flops = [
        sum(part["flops"] for part in r.profile["flops"]) for r in (kept_inside, again_inside) if r.profile
    ]
    assert flops[1] > 1.1 * flops[0]


def test_a_suite_gives_a_model_what_it_can_serve(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(defaults.SUITES, "both", ("synthetic", "writes"))
    monkeypatch.setattr("peftbench.planning.plan.named_task", lambda text: (text, {"task": "1", "data": "1"}))
    monkeypatch.setattr(
        "peftbench.planning.plan._refusal",
        lambda model, task: "it does not write" if task == "writes" else None,
    )
    said: list[str] = []
    monkeypatch.setattr("peftbench.planning.plan.notify", said.append)
    asked = Comparison(
        ("lora",), models=("tiny-encoder",), tasks=("both", "synthetic"), baselines=False, latency_grid=()
    )
    planned = plan(asked, capacity())
    assert {item.run.task for item in planned} == {"synthetic"} and len(planned) == 4
    assert said == ["writes left out: it does not write"]


def test_a_suite_has_a_budget_of_its_own_where_none_is_asked_for() -> None:
    def budget(*tasks: str, **asked: Any) -> str:
        return Comparison(("lora",), ("m",), tasks, **asked).resolve_budget(48).name

    suite, own = next(iter(defaults.BUDGET_OF_SUITE.items()))
    assert suite in defaults.SUITES and budget(suite) == own != defaults.BUDGET
    assert budget("synthetic") == budget(suite, "synthetic") == defaults.BUDGET
    assert budget(suite, budget="standard") == "standard"
    assert Comparison(("lora",), ("m",), (suite,)).first_seeds == defaults.BUDGETS[own].seeds


def test_what_writes_is_left_out_of_a_suite_for_an_encoder(tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_text("".join(f'{{"q": "q{i}", "a": "a{i}"}}\n' for i in range(30)))
    task = f"jsonl:path={file}:prompt=q:completion=a"
    assert "does not generate text" in (_refusal("tiny-encoder", task) or "")
    assert _refusal("tiny-decoder", task) is None and _refusal("tiny-encoder", "synthetic") is None


def test_sizes_that_can_not_be_are_said_before_anything_runs(tmp_path: Path) -> None:
    asked = Comparison(("lora",), models=("tiny-encoder",), tasks=("synthetic",), train_sizes=(10, 513))
    with pytest.raises(UsageError, match="--train-size 513: the training split of synthetic has 512 items"):
        plan(asked, capacity())
    file = tmp_path / "rare.csv"
    file.write_text("text,label\n" + "".join(f"t {i},{'no' if i % 50 == 0 else 'yes'}\n" for i in range(300)))
    with pytest.raises(UsageError, match="--train-size 2: these items of .* are all of one label"):
        plan(dataclasses.replace(asked, tasks=(f"csv:path={file}",), train_sizes=(2,)), capacity())


def test_a_metric_that_can_not_be_had_is_said_before_anything_runs(
    pairs: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = TEXT_METRICS["chrf"]
    monkeypatch.setitem(
        TEXT_METRICS, "chrf", dataclasses.replace(known, unavailable=lambda: "its data is not here")
    )
    asked = Comparison(("lora",), models=("tiny-decoder",), tasks=(f"{pairs}:metric=chrf",))
    with pytest.raises(UsageError, match="metric chrf can't be had here: its data is not here"):
        plan(asked, capacity())


def test_a_refusal_of_another_machine_leaves_a_result_alone(make_run: Make, tmp_path: Path) -> None:
    run = make_run()
    record = Record(run, run.key, "ok")
    stored = Stored(record, tmp_path)
    item = Planned(run, False, None, None, "it does not fit")
    assert _refused(item, stored, Store(tmp_path / "store")) is stored


def planned_on(models: tuple[str, ...], **more: Any) -> list[Planned]:
    asked = Comparison(
        ("lora", "ln"), models, ("synthetic",), steps=1, latency_grid=(), profile=False, baselines=False, **more
    )  # fmt: skip
    return plan(asked, capacity())


def test_of_several_models_one_that_fails_is_a_row_and_alone_it_is_the_commands_error(
    tmp_path: Path, checkpoint: Callable[[str], str]
) -> None:
    cut = tmp_path / "cut"
    shutil.copytree(checkpoint("bert"), cut)
    weights = cut / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-10])
    for bad, said in ((str(cut), "model.safetensors can't be read"), ("no-such-model", "unknown model")):
        planned = planned_on(("tiny-encoder", bad))
        assert {(p.run.method, p.run.model) for p in planned if p.refusal is None} == {
            ("lora", "tiny-encoder"),
            ("ln", "tiny-encoder"),
        }
        refused = [p for p in planned if p.refusal is not None]
        assert [p.run.method for p in refused] == ["lora", "ln"] and {p.run.model for p in refused} == {bad}
        assert all(said in str(p.refusal) for p in refused)
        assert len({p.run.key for p in refused}) == 2
        with pytest.raises(UsageError, match=said):
            planned_on((bad,))
        asked = LatencyRequest(("lora",), ("tiny-encoder", bad), cells=((1, 8),), processes=1)
        timed, lost = sorted(plan_latency(asked, capacity()), key=lambda p: p.refusal is not None)
        assert timed.run.model == "tiny-encoder" and lost.run.model == bad and said in str(lost.refusal)


def test_texts_past_the_models_positions_are_refused(
    tmp_path: Path, checkpoint: Callable[[str], str]
) -> None:
    rows = "".join(f'{{"q": "{i}", "a": "{i % 5}"}}\n' for i in range(60))
    (tmp_path / "rows.jsonl").write_text(rows)
    writing = f"jsonl:path={tmp_path}/rows.jsonl:prompt=q:completion=a:max_new_tokens="

    def refusal(family: str, length: int, new: int | None) -> str | None:
        task = "synthetic" if new is None else f"{writing}{new}"
        asked = Comparison(
            ("lora",), (checkpoint(family), "tiny-decoder"), (task,), steps=1, max_length=length,
            latency_grid=(), profile=False, baselines=False,
        )  # fmt: skip
        return next(p.refusal for p in plan(asked, capacity()) if p.run.model == checkpoint(family))

    assert refusal("gpt2", 64, 64) is None  # of 128
    assert refusal("gpt2", 65, 64) == (
        "the model has 128 positions, and --max-length 65 and max_new_tokens=64 need 129; ask for shorter texts"
    )
    assert refusal("llama", 128, 64) is None  # its positions are relative
    assert refusal("bert", 128, None) is None
    assert "128 positions" in str(refusal("bert", 129, None))
    assert "127 positions" in str(
        refusal("roberta", 128, None)
    )  # they begin behind the padding token's number


def test_a_run_does_not_take_other_files_than_it_was_planned_with(
    tmp_path: Path, checkpoint: Callable[[str], str]
) -> None:
    model = tmp_path / "model"
    shutil.copytree(checkpoint("bert"), model)
    run = planned_on((str(model),))[0].run
    prepare.check_identity(run)
    (tmp_path / "adapter").mkdir()
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        (tmp_path / "adapter" / name).write_text("{}")
    started = f"lora:start={tmp_path}/adapter"
    going_on = dataclasses.replace(
        run, method=started, identity={**run.identity, "method": build.method_identity(started)}
    )
    prepare.check_identity(going_on)
    (tmp_path / "adapter" / "adapter_model.safetensors").write_text("other")
    with pytest.raises(UsageError, match="the adapter that lora:start=.* changed since the run was planned"):
        prepare.check_identity(going_on)
    (model / "tokenizer_config.json").write_text("{}")
    with pytest.raises(UsageError, match="the files of model .* changed since the run was planned"):
        prepare.check_identity(run)
    record = Record.from_text(do(Execute(run, Conditions()), tmp_path)["record"])
    assert record.status == "failed" and "changed since the run was planned" in str(record.reason)
    assert not str(record.reason).startswith("UsageError")
