"""Programs on one store share its runs, and none is done twice."""

from __future__ import annotations

import json
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from peftbench.engine import sweep as sweeps
from peftbench.engine.answers import ANSWER
from peftbench.engine.inline import InlineEngine
from peftbench.engine.protocol import Capacity, Device
from peftbench.engine.sharing import Sharing, Turn
from peftbench.engine.sweep import Execution, sweep
from peftbench.records.record import Record
from peftbench.records.runs import Planned, Run
from peftbench.records.store import Store

Make = Callable[..., Run]


class Quick(InlineEngine):
    """In one of several threads: what a job says goes nowhere."""

    def capacity(self) -> Capacity:
        return Capacity((Device("cpu", 1, 10**9, False),), 1)

    def _do_next(self) -> None:
        number, job, out = self._waiting.popleft()
        (out / ANSWER).write_text(json.dumps(self._do(job, out)))
        self._said.append({"job": number, "exit": 0})


def planned(make_run: Make, count: int) -> list[Planned]:
    return [Planned(make_run(seed=seed), False, 1, 1, None) for seed in range(count)]


def put(store: Store, run: Run, status: str = "ok") -> None:
    with store.staging() as staging:
        store.put(Record(run, run.key, status, started_at="2026"), staging)


@pytest.mark.parametrize("status", ["ok", "failed"])
def test_two_sweeps_do_each_run_once_and_see_all(
    status: str, make_run: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also what fails is tried once, where both were asked to try failed runs again."""
    monkeypatch.setattr(sweeps, "LOOK_S", 0.01)
    items, done, seen = planned(make_run, 12), Counter[str](), [list[Record](), list[Record]()]
    for item in items[:3]:
        put(Store(tmp_path), item.run, "failed")

    def do(job: Any, out: Path) -> dict[str, Any]:
        done[job.run.key] += 1
        time.sleep(0.02)
        return {"record": Record(job.run, job.run.key, status, started_at="2027").to_text()}

    def program(number: int) -> None:
        how = Execution(jobs=1, retry_failed=True)
        seen[number] += [r.record for _, r in sweep(items, Store(tmp_path), Quick(do), how)]

    threads = [threading.Thread(target=program, args=(number,)) for number in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert done == Counter(item.run.key for item in items)
    for records in seen:
        assert {r.key for r in records} == set(done) and {r.status for r in records} == {status}
        assert {r.started_at for r in records} == {"2027"}
    assert not (tmp_path / ".claims").exists()


def test_what_is_finished_while_it_is_claimed_is_not_done_again(make_run: Make, tmp_path: Path) -> None:
    store, run = Store(tmp_path), make_run()
    sharing = Sharing(store)
    put(store, run)
    assert sharing.turn(run.key, None) is Turn.CHANGED
    held = store.get(run.key)
    assert held is not None and sharing.is_anew(held, run.key)
    assert sharing.turn(run.key, held) is Turn.MINE  # asked for a curve as well, say
    other = Sharing(store)
    assert other.turn(run.key, held) is Turn.ANOTHERS and other.owner_once(run.key) == sharing.claims.me
    # Of two tasks with the same data each run stands there twice: this program is not another one.
    assert sharing.turn(run.key, held) is Turn.ANOTHERS and sharing.owner_once(run.key) is None


def test_an_interrupted_sweep_keeps_no_claim(make_run: Make, tmp_path: Path) -> None:
    def do(job: Any, out: Path) -> dict[str, Any]:
        return {"record": Record(job.run, job.run.key, "ok", started_at="2026").to_text()}

    swept: Any = sweep(planned(make_run, 3), Store(tmp_path), Quick(do))
    next(swept)
    swept.close()
    assert not (tmp_path / ".claims").exists()
