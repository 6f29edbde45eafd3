"""What a job leaves in its folder, and asking for work that leaves nothing in the store."""

from __future__ import annotations

import contextlib
import json
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from .. import progress
from ..errors import PeftbenchError, UsageError
from ..progress import notify
from ..records.store import unwritable
from .jobs import Job
from .protocol import Engine, Event

ANSWER, LOG = "answer.json", "log.txt"
FAILED = 1  # the exit code of a job that raised something
KILLED = -9  # of one that was ended, where no system says how
MOST_TRIES = 3  # of a job that a machine took with it
TIMED_OUT = 124  # in its place, of one that was ended for its time
Doer = Callable[[Job, Path], dict[str, Any]]  # does a job, its files into a folder; returns its answer


def do_alone(
    job: Job, engine: Engine, out: Path, watch: Callable[[Event], None], timeout_s: float | None = None
) -> tuple[int, dict[str, Any] | None]:
    """Do one job alone; returns its exit code and its answer, if it gave one. After `timeout_s` it is ended; time in a queue does not count."""
    queued = timeout_s is not None and engine.capacity().apart
    number = engine.start(job, out)
    until = None if timeout_s is None or queued else time.monotonic() + timeout_s
    late = False
    while True:
        for event in engine.events(None if until is None else max(0.0, until - time.monotonic()) + 0.01):
            if event["job"] != number:
                continue
            if "exit" in event:
                return TIMED_OUT if late else event["exit"], answer_in(out)
            if queued and timeout_s is not None and "notice" not in event:  # it has begun
                queued, until = False, time.monotonic() + timeout_s
            watch(event)
        if until is not None and time.monotonic() > until:
            late, until = True, None
            engine.kill(number)


def ask(job: Job, engine: Engine, timeout_s: float | None = None) -> dict[str, Any]:
    """The answer to a job that leaves nothing in the store.

    Raises:
        UsageError: the job says that what is asked of it is wrong, or it took longer than `timeout_s`.
        PeftbenchError: its process died.
    """
    unwritable_said: list[str] = []

    def watch(event: Event) -> None:
        if "notice" in event:
            notify(event["notice"])
        if "download" in event:
            progress.send(dict(event))
        if "unwritable" in event:
            unwritable_said.append(event["unwritable"])

    with _folder_for_a_while() as out:
        code, answer = do_alone(job, engine, out, watch, timeout_s)
        if code == TIMED_OUT:
            raise UsageError(f"the {job.name} took longer than --timeout {timeout_s:g} s; give it more")
        if answer is None and unwritable_said:
            raise UsageError(f"{unwritable_said[0]}; free some space, or name another place")
        if answer is None:
            last = (log_tail(out) or ["no log"])[-1]
            raise PeftbenchError(f"the {job.name} failed ({exit_reason(code)}): {last}")
    if "error" in answer:
        raise UsageError(answer["error"])
    return answer


def carry_out(job: Job, out: Path, do: Doer, send: Callable[[dict[str, Any]], None]) -> int:
    """Do a job where it was brought to: all that an engine owes it in its own process.

    Its answer is left in the folder `out`, or the traceback of what it raised, in the log.

    Args:
        send: takes what the job says on its way, as events without the job's number.

    Returns:
        The code of its exit, which the engine sends as the last event.
    """
    with progress.reported_to(send):
        try:
            (out / ANSWER).write_text(json.dumps(do(job, out)), encoding="utf-8")
        except (Exception, SystemExit) as error:  # noqa: BLE001  whatever a job raises ends that job alone
            if (said := unwritable(error)) is not None:  # then the next one would fail as well
                send({"unwritable": said})
            sys.stdout.flush()  # the traceback is the last that the log says
            with contextlib.suppress(OSError), (out / LOG).open("a", encoding="utf-8") as log:
                traceback.print_exc(file=log)
            return FAILED
    return 0


def answer_in(out: Path) -> dict[str, Any] | None:
    """What a job left as its answer, taken out of its folder."""
    file = out / ANSWER
    if not file.is_file():
        return None
    try:
        content: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    except ValueError:  # killed while it wrote
        return None
    finally:
        file.unlink()
    return content


def exit_reason(code: int) -> str:
    """What an exit code of a process says."""
    if code >= 0:
        return f"ended with status {code}"
    hint = " (out of memory?)" if code == -signal.SIGKILL else ""
    known = {s.value for s in signal.Signals}
    return f"killed by signal {signal.Signals(-code).name if -code in known else -code}{hint}"


def log_tail(out: Path, lines: int = 40) -> list[str]:
    """The last lines of a job's log that say something."""
    try:
        text = (out / LOG).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return []
    return [line.rstrip()[:300] for line in text.splitlines() if line.strip()][-lines:]


@contextlib.contextmanager
def _folder_for_a_while() -> Iterator[Path]:
    """Raises UsageError where nothing temporary can be written."""
    try:
        folder = tempfile.TemporaryDirectory(prefix="peftbench-", ignore_cleanup_errors=True)
    except OSError as error:
        raise UsageError(
            f"no temporary folder can be made ({error.strerror}); free some space, or set TMPDIR to a folder that can be written"
        ) from error
    with folder as name:
        yield Path(name)
