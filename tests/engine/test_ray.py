"""The engine ray: a cluster of two nodes on this machine, one of which is lost."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from peftbench import UsageError
from peftbench.engine.named import engine_named
from peftbench.engine.protocol import Event
from peftbench.engine.sweep import Execution, sweep
from peftbench.records.runs import Planned, Run
from peftbench.records.store import Store

pytest.importorskip("ray", reason="the engine ray needs Ray")
Make = Callable[..., Run]


def test_runs_of_a_node_that_dies_are_done_elsewhere(make_run: Make, tmp_path: Path) -> None:
    """None is lost or done twice, and the results are those of this process, bit for bit."""
    from ray.cluster_utils import Cluster

    runs = [Planned(make_run("lora", seed=seed, steps=400), False, 1, 1, None) for seed in range(2)]
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    said: list[Event] = []
    try:
        first = cluster.add_node(num_cpus=1)

        def watch(event: Event) -> None:
            said.append(event)
            if event.get("phase") == "train" and first in cluster.worker_nodes:
                cluster.remove_node(first, allow_graceful=False)
                cluster.add_node(num_cpus=1)

        with engine_named(f"ray:{cluster.address}") as engine:
            assert engine.capacity().apart
            store = Store(tmp_path / "store")
            found = {item.run.key: stored for item, stored in sweep(runs, store, engine, watch=watch)}
    finally:
        cluster.shutdown()  # type: ignore[no-untyped-call]
    assert [event["notice"] for event in said if "again" in event] and first not in cluster.worker_nodes
    assert len([event for event in said if "exit" in event]) == len(runs)
    with engine_named("inline") as here:
        for item, stored in sweep(runs, Store(tmp_path / "here"), here, Execution(jobs=1)):
            other = found[item.run.key]
            assert other.record.status == "ok" and other.record.run == stored.record.run
            assert other.record.quality == stored.record.quality
            for name in ("predictions.parquet", "adapter.safetensors"):
                assert (other.folder / name).read_bytes() == (stored.folder / name).read_bytes()


def test_a_cluster_that_is_not_there_is_one_line() -> None:
    said = "no Ray cluster answers at '127.0.0.1:9': [Errno 111] Connection refused; name its head"
    with pytest.raises(UsageError, match=re.escape(said)), engine_named("ray:127.0.0.1:9") as engine:
        engine.capacity()
