"""What a job leaves in its folder, and asking for work that leaves nothing in the store."""

from __future__ import annotations

import json
import signal
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..errors import PeftbenchError, UsageError
from ..progress import notify
from .jobs import Job
from .protocol import Engine, Event

ANSWER, LOG = "answer.json", "log.txt"


def do_alone(
    job: Job, engine: Engine, out: Path, watch: Callable[[Event], None]
) -> tuple[int, dict[str, Any] | None]:
    """Do one job alone; returns its exit code and its answer, if it gave one."""
    number = engine.start(job, out)
    while True:
        for event in engine.events():
            if event["job"] != number:
                continue
            if "exit" in event:
                return event["exit"], answer_in(out)
            watch(event)


def ask(job: Job, engine: Engine) -> dict[str, Any]:
    """The answer to a job that leaves nothing in the store.

    Raises:
        UsageError: the job says that what is asked of it is wrong.
        PeftbenchError: its process died.
    """
    with tempfile.TemporaryDirectory(prefix="peftbench-") as folder:
        out = Path(folder)
        code, answer = do_alone(job, engine, out, _only_notices)
        if answer is None:
            last = (log_tail(out) or ["no log"])[-1]
            raise PeftbenchError(f"the {job.name} failed ({exit_reason(code)}): {last}")
    if "error" in answer:
        raise UsageError(answer["error"])
    return answer


def write_answer(answer: dict[str, Any], out: Path) -> None:
    (out / ANSWER).write_text(json.dumps(answer), encoding="utf-8")


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


def _only_notices(event: Event) -> None:
    if "notice" in event:
        notify(event["notice"])
