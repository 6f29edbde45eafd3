"""Jobs as jobs of Slurm, by submitit: each on a node that Slurm chooses, in an array that waits in its queue.

A job has a folder that the program and the nodes see alike (`folder=`, by default in the current folder): what it is to do, its
events, one a line, and its files. On the node a worker of its own does it, as on any machine. So the program may leave, or die, and come back: a run whose folder is there already
is not sent again, its events are read on. What Slurm lost with a node is sent again.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import shutil
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import UsageError, unknown
from ..progress import notify
from ..records.runs import MEASURED_ALONE
from ..spec import parse
from .answers import FAILED, KILLED, LOG, MOST_TRIES, ask
from .jobs import Execute, Job, Look, job_from_json
from .local import LocalEngine
from .protocol import Capacity, Event

if TYPE_CHECKING:
    import submitit

OPTIONS = {  # what may be asked of Slurm, and what submitit calls it
    "account": "slurm_account", "constraint": "slurm_constraint", "cpus": "cpus_per_task", "gpus": "gpus_per_node",
    "mem_gb": "mem_gb", "partition": "slurm_partition", "qos": "slurm_qos", "time": "timeout_min",
}  # fmt: skip
NUMBERS = ("cpus", "gpus", "mem_gb", "time")
OWN = {"cluster": "slurm", "folder": ".peftbench-slurm"}  # `cluster=local` tries it out without Slurm
TIME_MIN = 60
ASKED, SENT, BEGUN, EVENTS, OUT = "asked.json", "sent.json", "begun", "events.jsonl", "out"
LOOK_S = 0.5  # between looks at the jobs' events
GRACE_S = 60.0  # a file system may show what a node wrote so much later
NODE_LOST = ("BOOT_FAIL", "NODE_FAIL", "PREEMPTED", "REVOKED")  # of Slurm's states


class SlurmEngine:
    """Jobs of Slurm.

    Raises:
        UsageError: the settings are wrong.
    """

    def __init__(self, settings: str = "") -> None:
        """`settings`: what Slurm is asked for, as in `partition=gpu:gpus=1:time=60`."""
        given = dict(parse(f"slurm:{settings}").fields) if settings else {}
        for name, value in given.items():
            if name not in {**OPTIONS, **OWN}:
                raise unknown(
                    "option of the engine slurm",
                    name,
                    {**OPTIONS, **OWN},
                    "as in slurm:partition=gpu:gpus=1:time=60",
                )
            if name in NUMBERS and not (value.isdecimal() and int(value)):
                raise UsageError(
                    f"{name} of the engine slurm must be a whole number of 1 or more, not {value!r}"
                )
        self._given = given
        own = {**OWN, **given}
        self._cluster, self._home = own["cluster"], Path(own["folder"]).expanduser().absolute()
        self._jobs = 0
        self._unsent: dict[int, _Work] = {}
        self._sent: dict[int, _Work] = {}
        self._said: list[Event] = []
        self._capacity: Capacity | None = None

    def start(self, job: Job, out: Path) -> int:
        self._jobs += 1
        work = _Work.of(job, out, self._home)
        if (known := work.sent_before()) is not None:
            work.sent = self._known(known)
            self._sent[self._jobs] = work
        else:
            work.ask(job)
            self._unsent[self._jobs] = work
        return self._jobs

    def events(self, timeout_s: float | None = None) -> list[Event]:
        self._send()
        until = None if timeout_s is None else time.monotonic() + timeout_s
        while True:
            for number, work in list(self._sent.items()):
                self._said += self._news(number, work)
            if self._said or (until is not None and time.monotonic() >= until):
                said, self._said = self._said, []
                return said
            time.sleep(LOOK_S if until is None else max(0.0, min(LOOK_S, until - time.monotonic())))

    def kill(self, number: int) -> None:
        work = self._unsent.pop(number, None) or self._sent.pop(number, None)
        if work is not None:
            work.cancel()
            work.hand_over()
            self._said.append({"job": number, "exit": KILLED})

    def close(self) -> None:
        """Leave: runs that are in the queue or on a node go on, and the same command takes them up again."""
        left = [work for work in self._sent.values() if work.lasts]
        for work in (*self._sent.values(), *self._unsent.values()):
            if work not in left:
                work.cancel()
                work.remove()
        self._sent, self._unsent = {}, {}
        if left:
            ids = sorted({work.sent.job_id.split("_")[0] for work in left if work.sent is not None})
            notify(
                f"{len(left)} runs go on in Slurm: the same command collects them, `scancel {' '.join(ids)}` ends them"
            )

    def capacity(self) -> Capacity:
        """Of one node, as a job finds it there."""
        if self._capacity is None:
            found = Capacity.from_json(ask(Look(), self))
            self._capacity = dataclasses.replace(found, apart=True)
        return self._capacity

    def script(self) -> str:
        """What `sbatch` is given."""
        from submitit.slurm.slurm import _make_sbatch_string

        options = {name.removeprefix("slurm_"): value for name, value in self._options(False).items()}
        options["time"] = options.pop("timeout_min")
        if "mem_gb" in options:
            options["mem"] = f"{options.pop('mem_gb')}GB"
        text: str = _make_sbatch_string(command="...", folder=self._home / "logs", **options)
        return text

    def _options(self, alone: bool) -> dict[str, Any]:
        found: dict[str, Any] = {"timeout_min": TIME_MIN, "slurm_job_name": "peftbench"}
        for name, value in self._given.items():
            if name in OPTIONS:
                found[OPTIONS[name]] = int(value) if name in NUMBERS else value
        return {**found, "slurm_exclusive": True} if alone else found

    def _executor(self, alone: bool) -> Any:
        made = _submitit().AutoExecutor(folder=self._home / "logs", cluster=self._cluster)
        known = self._options(alone)
        if self._cluster != "slurm":
            known = {name: value for name, value in known.items() if not name.startswith("slurm_")}
        made.update_parameters(**known)
        return made

    def _send(self) -> None:
        """What was started since, in an array: what is measured alone has its nodes to itself."""
        for alone in (True, False):
            works = {number: work for number, work in self._unsent.items() if work.alone == alone}
            if not works:
                continue
            try:
                executor = self._executor(alone)
                with executor.batch():
                    jobs = [executor.submit(on_node, str(work.folder)) for work in works.values()]
            except (OSError, RuntimeError) as error:
                said = " ".join(str(error).split())[:200]
                raise UsageError(
                    f"Slurm takes no jobs here: {said}; ask it with --engine slurm on a machine that has sbatch"
                ) from error
            for (number, work), job in zip(works.items(), jobs, strict=True):
                work.note(job)
                self._sent[number] = self._unsent.pop(number)

    def _known(self, job_id: str) -> submitit.Job[None]:
        job_class: type[submitit.Job[None]] = self._executor(False)._executor.job_class
        return job_class(folder=self._home / "logs", job_id=job_id)

    def _news(self, number: int, work: _Work) -> Iterator[Event]:
        for event in work.news():
            if "exit" in event:
                del self._sent[number]
                work.hand_over()
            yield {**event, "job": number}  # type: ignore[typeddict-item]
        if number not in self._sent or not work.is_lost():
            return
        assert work.sent is not None
        state = work.sent.state
        if state in NODE_LOST and work.tries < MOST_TRIES:
            said = f"Slurm lost job {work.sent.job_id} ({state}): it is sent again"
            yield {"job": number, "notice": said, "again": True}
            self._unsent[number] = self._sent.pop(number)
            work.ask_again()
            self._send()
            return
        del self._sent[number]
        work.explain(f"Slurm's job {work.sent.job_id} ended: {state}")
        work.hand_over()
        yield {"job": number, "exit": FAILED}


@dataclass
class _Work:
    """A job and its folder."""

    folder: Path
    out: Path  # where its files are wanted
    message: dict[str, Any]  # the job as JSON
    lasts: bool  # it is worth being taken up by a later program
    alone: bool
    sent: submitit.Job[None] | None = None
    tries: int = 1
    read_bytes: int = 0
    heard_s: float = 0.0

    @classmethod
    def of(cls, job: Job, out: Path, home: Path) -> _Work:
        """A run's folder is the same whoever asks for it, into one store."""
        name, alone = uuid.uuid4().hex, False
        if isinstance(job, Execute):
            name = hashlib.sha256(f"{out.resolve().parent}\0{job.run.key}".encode()).hexdigest()[:32]
            alone = job.run.kind in MEASURED_ALONE
        message = json.loads(json.dumps(job.to_json()))
        return cls(home / name, out, message, isinstance(job, Execute), alone, heard_s=time.monotonic())

    def sent_before(self) -> str | None:
        """The number of the same job in the queue, if an earlier program sent it."""
        with contextlib.suppress(OSError, ValueError):
            if json.loads((self.folder / ASKED).read_text(encoding="utf-8")) == self.message:
                found: str = json.loads((self.folder / SENT).read_text(encoding="utf-8"))
                return found
        return None

    def ask(self, job: Job) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)
        (self.folder / OUT).mkdir(parents=True)
        (self.folder / ASKED).write_text(json.dumps(job.to_json()), encoding="utf-8")

    def ask_again(self) -> None:
        self.tries, self.read_bytes, self.heard_s = self.tries + 1, 0, time.monotonic()
        self.ask(job_from_json(self.message))

    def note(self, job: submitit.Job[None]) -> None:
        self.sent = job
        (self.folder / SENT).write_text(json.dumps(job.job_id), encoding="utf-8")

    def news(self) -> list[dict[str, Any]]:
        """The whole lines that were added since."""
        try:
            with (self.folder / EVENTS).open("rb") as source:
                source.seek(self.read_bytes)
                added = source.read()
        except OSError:  # not begun, or the file system is away
            return []
        whole = added[: added.rfind(b"\n") + 1]
        if whole:
            self.read_bytes, self.heard_s = self.read_bytes + len(whole), time.monotonic()
        return [json.loads(line) for line in whole.splitlines()]

    def is_lost(self) -> bool:
        """Whether it ended without a word."""
        return self.sent is not None and time.monotonic() - self.heard_s > GRACE_S and self.sent.done()

    def cancel(self) -> None:
        if self.sent is not None:
            with contextlib.suppress(OSError):
                self.sent.cancel(check=False)

    def explain(self, why: str) -> None:
        """Into its log, with what the queue's own log ends with."""
        assert self.sent is not None
        with contextlib.suppress(OSError):
            said = (self.sent.stderr() or "")[-2000:]
            with (self.folder / OUT / LOG).open("a", encoding="utf-8") as log:
                log.write(f"{said}\n{why}\n")

    def hand_over(self) -> None:
        """Move its files to where they are wanted."""
        if self.out.is_dir() and (self.folder / OUT).is_dir():
            for file in (self.folder / OUT).iterdir():
                shutil.move(file, self.out / file.name)
        self.remove()

    def remove(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)
        if self.sent is not None:
            paths = self.sent.paths
            for file in paths.folder.glob(f"{self.sent.job_id}_*"):
                file.unlink(missing_ok=True)


def on_node(folder: str) -> None:
    """Do the job of a folder: what Slurm starts on a node."""
    home = Path(folder)
    try:
        (home / BEGUN).touch(exist_ok=False)
    except FileExistsError:  # sent twice, by a program that died before it had noted that
        return
    job = job_from_json(json.loads((home / ASKED).read_text(encoding="utf-8")))
    engine = LocalEngine()
    with contextlib.closing(engine), (home / EVENTS).open("a", encoding="utf-8") as sink:
        engine.start(job, home / OUT)
        while True:
            for event in engine.events():
                sink.write(json.dumps(event) + "\n")
                sink.flush()
                if "exit" in event:
                    return


def _submitit() -> Any:
    try:
        import submitit
    except ImportError as error:
        raise UsageError("the engine slurm needs submitit: pip install 'peftbench[slurm]'") from error
    return submitit
