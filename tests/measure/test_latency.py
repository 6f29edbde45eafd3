"""Latency, generation and serving against truth that is known beforehand."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from peftbench import Adaptation
from peftbench.errors import NotSupported
from peftbench.execution import inference
from peftbench.execution.inference import measure_inference
from peftbench.execution.prepare import Prepared, inject
from peftbench.measure import latency
from peftbench.measure.latency import (
    into_own_memory,
    measure_latency,
    noise_floor,
    over_shared_weights,
    variants_of,
)
from peftbench.measure.serving import MIXED
from peftbench.models.load import Loaded, load_model
from peftbench.models.resolve import resolve_model
from peftbench.plugins import registry
from peftbench.records.joint import record_parts
from peftbench.records.record import Record
from peftbench.records.runs import BASE, COPY, LatencyGrid, Run, merged_name
from peftbench.stats.slowdown import EQUIVALENCE, Slowdown, slowdown
from peftbench.tables.costs import latencies

CPU = torch.device("cpu")


class Machine:
    """A machine with a clock of its own: time passes when a layer says so, and with the noise of a real one."""

    def __init__(self) -> None:
        self.now_s, self.speed, self.draw = 0.0, 1.0, np.random.default_rng(0)

    def work(self, seconds: float) -> None:
        self.speed *= float(np.exp(self.draw.normal(0, 0.01)))  # clocks drift
        neighbour = 1.5 if self.draw.random() < 0.02 else 1.0
        self.now_s += seconds * self.speed * neighbour * float(np.exp(self.draw.normal(0, 0.01)))


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    made = Machine()
    monkeypatch.setattr("peftbench.measure.clock.time", SimpleNamespace(perf_counter=lambda: made.now_s))
    monkeypatch.setattr(Sleepy, "work", staticmethod(made.work))
    return made


class Sleepy(nn.Module):
    """A layer that takes a known time, and folds to one that takes another."""

    def __init__(self, seconds: float, folded_s: float) -> None:
        super().__init__()
        self.seconds, self.folded_s = seconds, folded_s

    @staticmethod
    def work(seconds: float) -> None:
        time.sleep(seconds)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.work(self.seconds)
        return x

    def fold(self) -> nn.Module:
        return Sleepy(self.folded_s, 0.0)


class Toy(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.config = SimpleNamespace(vocab_size=50, max_position_embeddings=64)
        self.layer: nn.Module = Sleepy(0.002, 0.0)

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.layer(input_ids)
        return out


def timed(folded_s: float) -> dict[str, Slowdown]:
    """A method that takes 20 % longer and folds to a layer of `folded_s`, against a base of 2 ms, in three processes."""
    processes = []
    for _ in range(3):
        base, tree = Toy(), Toy()
        wrapper = Sleepy(0.0024, folded_s)
        adaptation = Adaptation(tree, {}, swaps={"layer": (tree.layer, wrapper)})
        tree.layer = wrapper
        processes.append(measure_latency(variants_of(base, {"slow": adaptation}), ((1, 8),), CPU, 40)[0].ms)
    return {
        name: slowdown([(process[BASE], process[name]) for process in processes])
        for name in (COPY, "slow", merged_name("slow"))
    }


def test_a_known_slowdown_is_found_and_a_merge_without_cost_is_equivalent(machine: Machine) -> None:
    found = timed(folded_s=0.002)
    low, high = found["slow"].interval()
    assert low < 0.2 < high and high - low < 0.05
    margin = EQUIVALENCE["cpu"]
    assert found[merged_name("slow")].is_none(margin) and found[COPY].is_none(margin)
    assert not found["slow"].is_none(margin)


def test_a_merge_that_costs_five_percent_is_not_equivalent(machine: Machine) -> None:
    slow = timed(folded_s=0.0021)[merged_name("slow")]
    assert not slow.is_none(EQUIVALENCE["cpu"]) and slow.value == pytest.approx(0.05, abs=0.02)


def test_too_long_a_cell_says_why_and_rounds_are_counted() -> None:
    cells = measure_latency({BASE: Toy(), COPY: Toy()}, ((1, 8), (1, 65)), CPU, 5)
    assert min(cells[0].ms[BASE]) >= 2.0 and [len(ms) for ms in cells[0].ms.values()] == [5, 5]
    assert cells[1].ms == {} and cells[1].refusal == "the model takes at most 64 tokens"
    with pytest.raises(NotSupported, match="CUDA graphs need a CUDA GPU"):
        measure_latency({BASE: Toy()}, ((1, 8),), CPU, 1, "cuda-graphs")


def test_all_methods_stand_on_one_set_of_weights(
    make_run: Callable[..., Run], checkpoint: Callable[[str], str]
) -> None:
    """Each in a tree of its own: none sees another, and what it computes is what it computes alone."""
    run = make_run("lora,adapter,prefix:length=4,prefix:length=8,full", checkpoint("bert"), kind="latency")
    source = resolve_model(run.model)
    loaded = load_model(source, None, 0)
    weights = {id(p) for p in loaded.model.parameters()}
    inputs = {"input_ids": torch.arange(12)[None] + 5, "attention_mask": torch.ones(1, 12, dtype=torch.long)}
    before = loaded.model(**inputs).logits
    made: dict[str, Prepared] = {}
    for method in run.method.split(","):
        tree = over_shared_weights(loaded.model)
        one = dataclasses.replace(run, method=method)
        made[method] = inject(one, dataclasses.replace(loaded, model=tree), "cpu")
        if (settle := made[method].adaptation.settle) is not None:
            settle()
    assert torch.equal(loaded.model(**inputs).logits, before)
    for method, prepared in made.items():
        alone = inject(dataclasses.replace(run, method=method), load_model(source, None, 0), "cpu")
        if alone.adaptation.settle is not None:
            alone.adaptation.settle()
        shared = {id(p) for p in prepared.adaptation.model.parameters()}
        assert weights <= shared or method == "full"
        assert torch.equal(
            prepared.adaptation.model(**inputs).logits, alone.adaptation.model(**inputs).logits
        )
    variants = variants_of(loaded.model, {name: p.adaptation for name, p in made.items()})
    assert [name for name in variants if name.endswith(" merged")] == ["lora merged"]
    assert all(not m.training for m in variants.values())


def test_a_latency_run_measures_all_its_methods(make_run: Callable[..., Run], cache: object) -> None:
    grid = LatencyGrid(((1, 8), (2, 8)), rounds=4, new_tokens=3, tasks=2)
    methods = "lora,adapter,prefix:length=4,full"
    run = make_run(methods, "tiny-decoder", kind="latency", task="", grid=grid)
    found = measure_inference(run)
    names = [BASE, COPY, "lora", "lora merged", "adapter", "prefix:length=4", "full"]
    assert list(found["latency"][0]["ms"]) == names
    assert all(len(ms) == 4 and min(ms) > 0 for ms in found["latency"][0]["ms"].values())
    assert list(found["generation"][0]["token_ms"]) == names
    serving = {one["method"]: one for one in found["serving"]}
    assert serving["lora"]["refusal"] is None and "can't be added" in serving["adapter"]["refusal"]
    assert all("no layers of its own" in serving[one]["refusal"] for one in ("full", "prefix:length=4"))
    assert serving["lora"]["drift"] < 1e-6
    assert serving["lora"]["cells"][0]["refusal"] == "1 rows can't be shared evenly by 2 tasks"
    assert len(serving["lora"]["cells"][1]["ms"][MIXED]) == 4
    assert found["meters"]["timer"] == "wall clock" and found["meters"]["gpu_before"] is None
    assert found["meters"]["adapter_parameters"]["prefix:length=4"] > 0


def test_an_encoder_decoder_is_timed_that_writes_and_one_that_classifies(
    make_run: Callable[..., Run], checkpoint: Callable[[str], str], pairs: str
) -> None:
    for task in ({"task": pairs}, {}):
        run = make_run("lora", checkpoint("t5"), kind="latency", **task)
        assert len(measure_inference(run)["latency"][0]["ms"]["lora"]) == 4


@pytest.mark.parametrize(
    "method", sorted(set(registry.load("method")) - {"peft"})
)  # a bridge that names no tuner
def test_every_method_serves_whole_in_bfloat16(
    method: str, make_run: Callable[..., Run], cache: object
) -> None:
    """A served model is in one type throughout, without autocast: what stays float32 in training must bear it."""
    grid = LatencyGrid(((1, 8),), rounds=1)
    run = make_run(method, "tiny-encoder", kind="latency", dtype="bfloat16", task="", grid=grid)
    assert all(ms > 0 for ms in measure_inference(run)["latency"][0]["ms"][method])


def test_a_variant_is_timed_with_its_own_weights_in_the_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    """A cache that holds the weights of whoever ran last: nobody may be timed cold."""
    holds = ["nothing"]
    cold = {"base": 0, "copy": 0}

    def call(name: str) -> Callable[[], None]:
        def run() -> None:
            cold[name] += holds[0] != name
            holds[0] = name

        return run

    def time_ms(timed: Callable[[], object]) -> float:
        before = sum(cold.values())
        timed()
        return 1.0 + (sum(cold.values()) - before)

    monkeypatch.setattr(latency, "stopwatch", lambda device: time_ms)
    taken = latency.take_turns({name: call(name) for name in cold}, 4, CPU)
    assert taken == {"base": [1.0] * 4, "copy": [1.0] * 4}


def test_long_passes_are_timed_at_once_and_rounds_end_with_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = 0

    def call() -> None:
        nonlocal calls
        calls += 1

    for ms, made in ((latency.LONG_MS["cpu"] - 1, 2 * 10), (latency.LONG_MS["cpu"] + 1, 10 + 1)):
        calls = 0
        monkeypatch.setattr(latency, "stopwatch", lambda device, ms=ms: lambda call: (call(), ms)[1])
        latency.take_turns({"base": call}, 8, CPU)  # and two rounds before them
        assert calls == made
    assert len(latency.take_turns({"base": call}, 8, CPU, budget_s=0.0)["base"]) == latency.LEAST_ROUNDS
    cells = measure_latency({BASE: Toy()}, ((1, 8), (2, 8)), CPU, 8, budget_s=1000.0)
    assert [len(cell.ms[BASE]) for cell in cells] == [8, 8]


def test_a_cell_that_there_is_no_memory_for_is_refused_and_the_others_are_timed() -> None:
    class Large(Toy):
        def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
            if len(input_ids) > 1:
                raise torch.OutOfMemoryError("CUDA out of memory.")
            return input_ids

    first, second, third = measure_latency({BASE: Large()}, ((1, 8), (2, 8), (1, 9)), CPU, 3)
    assert first.refusal is third.refusal is None and len(third.ms[BASE]) == 3
    assert second.refusal == "there is not enough memory for it" and second.ms == {}


def test_a_language_models_pass_computes_the_last_positions_logits(
    make_run: Callable[..., Run], cache: object
) -> None:
    model = load_model(resolve_model("tiny-decoder"), None, 0).model
    inputs = latency.random_inputs(100, 2, 8, CPU)
    with torch.inference_mode():
        found = latency.forward_of(model, inputs)().logits  # type: ignore[attr-defined]
        torch.testing.assert_close(found, model(**inputs).logits[:, -1:])


def test_a_large_base_is_not_held_twice(
    make_run: Callable[..., Run], cache: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = load_model(resolve_model("tiny-encoder"), None, 0).model
    weights = {id(p): p.numel() for p in base.parameters()}
    assert not weights.keys() & {id(p) for p in noise_floor(base).parameters()}
    monkeypatch.setattr(latency, "COPIED_BYTES", 0)
    floor = noise_floor(base)
    own = [(name, p) for name, p in floor.named_parameters() if id(p) not in weights]
    assert {name.rpartition(".")[0] for name, _ in own} == {"backbone.encoder.layer.0.attention.self.query"}
    assert all(torch.equal(p, base.get_parameter(name)) for name, p in own)


def test_merged_layers_are_held_as_long_as_they_weigh_no_more_than_the_base(
    make_run: Callable[..., Run], cache: object
) -> None:
    """Then come others, each beside the base: a method's ratios are to the base of its own turns."""
    everywhere = "targets=query+key+value+attention_output+ffn_in+ffn_out"
    methods = [f"lora:rank={rank}:{everywhere}" for rank in (2, 3, 4)]
    run = make_run(",".join([*methods, "adapter"]), "tiny-encoder", kind="latency", task="")
    run = dataclasses.replace(run, identity={**run.identity, "method": "1, 2, 3, 4"})
    sections = measure_inference(run)
    first, second = sections["latency"]
    assert [name for name in first["ms"] if name in methods] == methods[:2] and COPY in first["ms"]
    assert list(second["ms"]) == [BASE, methods[2], merged_name(methods[2]), "adapter"]
    record = Record(run, run.key, "ok", latency=sections["latency"], meters=sections["meters"])
    for part in record_parts(record):
        (cell,) = latencies([part])
        assert (cell.unmerged is not None) and (cell.merged is None) == (part.run.method == "adapter")
        ours = first if part.run.method in methods[:2] else second
        pair = (ours["ms"][BASE], ours["ms"][part.run.method])
        assert cell.unmerged == slowdown([pair])


def test_a_method_that_raises_is_left_out_and_the_others_are_timed(
    make_run: Callable[..., Run], cache: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = inference.moved

    def moved(run: Run, method: str, loaded: Loaded) -> Adaptation:
        found = given(run, method, loaded)
        if method == "adapter":
            raise ValueError("no place for it")
        if method == "ia3":
            monkeypatch.setattr(found.model, "forward", lambda **inputs: 1 / 0)
        return found

    monkeypatch.setattr(inference, "moved", moved)
    found = measure_inference(make_run("adapter,ia3,lora", "tiny-encoder", kind="latency", task=""))
    assert list(found["latency"][0]["ms"]) == [BASE, COPY, "lora", merged_name("lora")]
    left_out = {"adapter": "ValueError: no place for it", "ia3": "ZeroDivisionError: division by zero"}
    assert found["meters"]["left_out"] == left_out and found["meters"]["timed_s"] > 0
    with pytest.raises(ValueError, match="no place"):
        measure_inference(make_run("adapter", "tiny-encoder", kind="latency", task=""))


def test_weights_leave_their_file_for_memory_of_their_own() -> None:
    layer = nn.Linear(4, 4)
    before = {name: (p.data_ptr(), p.detach().clone()) for name, p in layer.named_parameters()}
    into_own_memory(layer)
    for name, p in layer.named_parameters():
        assert p.data_ptr() != before[name][0] and torch.equal(p, before[name][1])
