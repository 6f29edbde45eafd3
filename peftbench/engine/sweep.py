"""A sweep: each run in a process of its own, its record put into the store as soon as it ends.

Whatever a run dies of (an error, a signal, a time-out) becomes its record, and the sweep goes on. Runs that measure
costs or latency have the machine to themselves; the others share it. Their threads are part of their keys, so that their
results are the same bit for bit however many of them run at once.
"""

from __future__ import annotations

import dataclasses
import datetime
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import PeftbenchError, UsageError
from ..option import EXECUTION, MEASUREMENT, OUTPUT, at_least, option, up_to
from ..option_types import FLAG, NUMBER, PART, WHOLE
from ..records.claims import LOOK_S
from ..records.record import Record
from ..records.runs import MEASURED_ALONE, Conditions, Planned, Run
from ..records.spelling import named_as
from ..records.store import Store, Stored
from ..records.weights import ADAPTER
from .answers import answer_in, exit_reason, log_tail
from .jobs import Execute
from .protocol import Engine, Event
from .room import Room
from .sharing import Sharing, Turn

MOST_AT_ONCE, MOST_MOMENTS = 1_000, 10_000
LONGEST_S = 10**8  # what a system's timers take


def _above_zero_seconds(option: str, value: float | None) -> None:
    if value is not None and not value > 0:
        raise UsageError(f"{option} must be above 0 seconds, not {value:g}")
    if value is not None and value > LONGEST_S:
        raise UsageError(
            f"{option} must be {LONGEST_S:,} seconds or less, not {value:g}; leave it out for no end"
        )


@dataclass(frozen=True)
class Execution:
    """How a sweep is carried out. Nothing of it determines a result."""

    jobs: int | None = option(
        None, "Number of runs at the same time; costs are measured alone. Default: as many as cores and memory, or GPUs, allow.", EXECUTION,
        WHOLE, check=up_to(MOST_AT_ONCE),
    )  # fmt: skip
    timeout_s: float | None = option(
        None,
        "Seconds after which a run (or the plan) is stopped.",
        EXECUTION,
        NUMBER,
        "timeout",
        check=_above_zero_seconds,
    )
    retry_failed: bool = option(False, "Run failed runs again.", EXECUTION, FLAG)
    shard: tuple[int, int] | None = option(
        None, "Do one part of the runs, as in 2/4, on each of several machines; peftbench merge brings their stores together.", EXECUTION, PART,
    )  # fmt: skip
    keep_weights: bool = option(
        False, "Also keep the weights of methods that change the whole model (full).", OUTPUT, FLAG
    )
    curve_points: int = option(
        0, "Score validation this many times during training; 0: never.", MEASUREMENT, WHOLE, "curve",
        check=up_to(MOST_MOMENTS, at_least(0, "; 0 scores validation at no moment")),
    )  # fmt: skip
    checkpoint_every: int = option(
        0, "Steps after which a training keeps its state, from which the same command carries on if it is ended; 0: never.", EXECUTION,
        WHOLE, check=at_least(0, "; 0 keeps no state"),
    )  # fmt: skip
    save_every: int = option(
        0, "Steps after which a training also saves its weights, for peftbench export --step; 0: at the end alone.", OUTPUT,
        WHOLE, check=at_least(0, "; 0 saves at the end alone"),
    )  # fmt: skip
    sequence: dict[str, Any] | None = None  # the rule by which seeds are added, noted in the records


ONE_BY_ONE = Execution(jobs=1)  # one run after the other, as they come


@dataclass
class _InFlight:
    item: Planned
    staging: Path
    slot: int
    closing: ExitStack
    deadline: float | None = None
    phase: str | None = None
    step: int | None = None
    memory: dict[str, int] | None = None
    ended_for: str | None = None  # why this program ended it

    def may_take(self, timeout_s: float | None) -> None:
        """Its time counts from now on; of one that waits in a queue from its first word on."""
        self.deadline = None if timeout_s is None else time.monotonic() + timeout_s


def is_missing(item: Planned, stored: Stored | None, how: Execution, is_new: bool = False) -> bool:
    """Whether a run is to be done, given what the store holds of it.

    Args:
        is_new: another program did it while this one waited: it is not tried a second time.
    """
    if item.refusal is not None:
        return False
    if stored is None or stored.record.status == "not supported":
        return True
    if stored.record.status == "failed":
        return how.retry_failed and not is_new
    if item.run.kind != "training":
        return False
    record = stored.record
    # One that is solved in one go, without steps, has no curve.
    curve = how.curve_points if (record.training or {}).get("step_s") else 0
    if curve and len(record.curve or ()) < min(curve, len((record.training or {})["step_s"])):
        return True
    stored_bytes = (record.parameters or {}).get("stored_bytes")
    training, keeps = record.training or {}, how.keep_weights or (record.claims or {}).get("exact_base")
    if how.save_every and keeps and training.get("step_s") and training.get("save_every") != how.save_every:
        return True
    return bool(how.keep_weights and stored_bytes and not (stored.folder / ADAPTER).is_file())


def sweep(
    planned: Iterable[Planned],
    store: Store,
    engine: Engine,
    how: Execution = ONE_BY_ONE,
    watch: Callable[[Event], None] = lambda event: None,
) -> Iterator[tuple[Planned, Stored]]:
    """Do what the store does not hold yet; yields each run with its record as it is there.

    Raises:
        UsageError: the store, or the cache, can't be written any more. What is finished is kept.
    """
    items = list(planned)
    room = Room.of(items, how.jobs, engine)
    if room.jobs > 1:  # what must be alone stands together, so that nothing waits for it in between
        items.sort(
            key=lambda item: MEASURED_ALONE.index(item.run.kind) if item.run.kind in MEASURED_ALONE else 0.5
        )
    waiting = deque(items)
    elsewhere: deque[Planned] = deque()  # what other programs do now
    flying: dict[int, _InFlight] = {}
    slots = set(range(room.jobs))
    sharing = Sharing(store, [item.run.key for item in items] if how.retry_failed else ())
    try:
        while waiting or flying or elsewhere:
            if not waiting:
                waiting, elsewhere = elsewhere, waiting
            while waiting and slots and room.has(waiting[0].run, [job.item.run for job in flying.values()]):
                item = waiting.popleft()
                key = item.run.key
                stored = store.get(key)
                if item.refusal is not None:
                    yield item, _refused(item, stored, store)
                elif stored is not None and not is_missing(item, stored, how, sharing.is_anew(stored, key)):
                    room.learn(stored.record)
                    yield item, _as_asked(_looked_at(stored, store, how), item.run)
                elif (turn := sharing.turn(key, stored)) is Turn.MINE:
                    number, job = _start(item, slots.pop(), store, engine, how, room)
                    flying[number] = job
                    watch({"job": number, "started": item.run.to_json()})
                elif turn is Turn.CHANGED:
                    waiting.appendleft(item)
                else:
                    elsewhere.append(item)
                    if (owner := sharing.owner_once(key)) is not None:
                        watch(
                            {"notice": f"{owner.said} works on this store too: its runs are not done twice"}
                        )
            if not flying:
                if elsewhere:
                    time.sleep(LOOK_S)
                continue
            for event in engine.events(_until_next_deadline(flying, LOOK_S if elsewhere else None)):
                job = flying[event["job"]]
                if "exit" in event:
                    del flying[event["job"]]
                    slots.add(job.slot)
                    with job.closing:
                        record, ended_itself = _record(job, event["exit"], how)
                        stored = store.put(record, job.staging)
                    if ended_itself:
                        store.forget_checkpoints(stored.record.key)
                    sharing.claims.give_up(stored.record.key)
                    room.learn(stored.record)
                    watch(event)
                    yield job.item, stored
                else:
                    _note(job, event, how)
                    watch(event)
            for number, job in flying.items():
                if job.deadline is not None and time.monotonic() > job.deadline and job.ended_for is None:
                    job.ended_for = f"timed out after {how.timeout_s:g} s"
                    engine.kill(number)
    finally:
        if flying:  # interrupted: nothing may write into a folder that is being removed
            engine.close()
            for job in flying.values():
                job.closing.close()
        sharing.claims.close()


def _start(
    item: Planned, slot: int, store: Store, engine: Engine, how: Execution, room: Room
) -> tuple[int, _InFlight]:
    closing = ExitStack()
    staging = closing.enter_context(store.staging())
    alone = item.run.kind in MEASURED_ALONE
    jobs = 1 if alone or room.apart else room.jobs
    conditions = Conditions(
        threads=None if alone or item.run.device != "cpu" else item.run.threads,
        gpu=slot * item.run.ranks if jobs > 1 and item.run.device == "cuda" else None,
        jobs=jobs,
        keep_weights=how.keep_weights,
        curve_points=how.curve_points if item.run.kind == "training" else 0,
        checkpoint_every=0 if alone else how.checkpoint_every,
        save_every=how.save_every if item.run.kind == "training" else 0,
        checkpoint_folder=str(store.checkpoints_of(item.run.key)) if how.checkpoint_every else None,
    )
    job = _InFlight(item, staging, slot, closing)
    if not room.apart:
        job.may_take(how.timeout_s)
    return engine.start(Execute(item.run, conditions), staging), job


def _note(job: _InFlight, event: Event, how: Execution) -> None:
    if "again" in event:
        job.deadline = job.phase = job.step = job.memory = None
    elif job.deadline is None and "notice" not in event:
        job.may_take(how.timeout_s)
    if "unwritable" in event:
        raise UsageError(
            f"{event['unwritable']}; finished runs are kept: free some space, and the same command carries on"
        )
    if "phase" in event:
        job.phase, job.step = event["phase"], None
    job.step = event.get("step", job.step)
    job.memory = event.get("memory", job.memory)


def _record(job: _InFlight, code: int, how: Execution) -> tuple[Record, bool]:
    """The record of a run that ended: its own, or one that says how it died; and whether it is its own."""
    answer = answer_in(job.staging)
    run = job.item.run
    reason = job.ended_for
    record = None
    if answer is not None and reason is None:
        try:
            record = Record.from_text(answer["record"])
        except PeftbenchError as error:  # a figure that is no number, say: no row should show it
            reason = f"it left a record that can't be: {error}"
    ended_itself = record is not None
    if record is None:
        reason = reason or exit_reason(code)
        record = Record(run, run.key, "failed", reason, job.phase, job.step, started_at=_now())
    if record.status != "ok":
        record = dataclasses.replace(record, failed_memory=job.memory, log_tail=log_tail(job.staging))
    return dataclasses.replace(record, sequence=how.sequence), ended_itself


def _looked_at(stored: Stored, store: Store, how: Execution) -> Stored:
    """A stored run that a rule for adding seeds looks at is one of its looks, whoever made it."""
    if how.sequence is None or stored.record.run.kind != "training" or stored.record.status != "ok":
        return stored
    return store.look_at(stored, how.sequence)


def _as_asked(stored: Stored, run: Run) -> Stored:
    """A record that the store held, with the paths that were written now."""
    return dataclasses.replace(stored, record=named_as(stored.record, run))


def _refused(item: Planned, stored: Stored | None, store: Store) -> Stored:
    """The record of a method that can't serve its model, put once; a result from where it could stands."""
    if stored is not None and (stored.record.status == "ok" or stored.record.reason == item.refusal):
        return stored
    record = Record(item.run, item.run.key, "not supported", item.refusal, started_at=_now())
    with store.staging() as staging:
        return store.put(record, staging)


def _until_next_deadline(flying: dict[int, _InFlight], at_most: float | None) -> float | None:
    deadlines = [
        job.deadline for job in flying.values() if job.deadline is not None and job.ended_for is None
    ]
    waits = [at_most] if at_most is not None else []
    if deadlines:
        waits.append(max(0.0, min(deadlines) - time.monotonic()) + 0.01)
    return min(waits, default=None)


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="microseconds")
