"""The process that talks to Ray for the program (`python -m peftbench.cluster.driver EVENTS [ADDRESS]`).

It reads jobs and writes events as `peftbench.worker` does. Each job is a Ray task with the cores, the GPU and the memory that it takes. What a
node took with it is done again elsewhere. Costs and latency have a node to themselves, for all of a kind of device the same one.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import queue
import re
import shutil
import socket
import sys
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..engine.answers import ANSWER, FAILED, KILLED, LOG, MOST_TRIES
from ..engine.local import WRONGLY_ASKED
from ..engine.room import SPARE
from ..records.runs import MEASURED_ALONE
from .travel import paths_of, renamed

os.environ["RAY_USAGE_STATS_ENABLED"] = "0"  # nothing is told to anybody
import ray
from ray.exceptions import RayError, RayTaskError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from .node import Source, on_node

REACHED_S = 10.0  # a head answers sooner
LOOK_S = 0.05  # between looks at what the program asks


@dataclass
class _Task:
    """A job and how far it is."""

    number: int
    out: Path
    message: dict[str, Any]  # the job as JSON
    paths: dict[str, str]
    tries: int = 1
    host: str = "a node"
    names: dict[str, str] = field(default_factory=dict)  # that its paths had on the node
    peak_bytes: int = 0
    killed: bool = False

    @property
    def run(self) -> dict[str, Any] | None:
        return self.message.get("run")

    @property
    def asked_names(self) -> dict[str, str]:
        """What its node's paths stand for."""
        return {there: place for place, there in self.names.items() if there != place}

    @property
    def is_alone(self) -> bool:
        return self.run is not None and self.run["kind"] in MEASURED_ALONE

    @property
    def shares_a_processor(self) -> bool:
        return self.run is not None and self.run["device"] == "cpu" and not self.is_alone


class Driver:
    """All jobs of one program."""

    def __init__(self, events: int) -> None:
        self._events = events
        self._waiting: list[_Task] = []
        self._running: dict[Any, _Task] = {}  # by stream
        self._seen_bytes: dict[str, int] = {}  # most that a run of a model took
        self._measuring: dict[str, str] = {}  # the node that measures on a kind of device
        self._source: Any = None
        self._on_node: Any = ray.remote(num_returns="streaming", max_retries=0)(on_node)

    @property
    def is_idle(self) -> bool:
        return not self._running

    def obey(self, message: dict[str, Any]) -> None:
        """A message of the program: a job to do, or the number of one to end."""
        if "kill" not in message:
            job = message["job"]
            self._waiting.append(_Task(message["number"], Path(message["out"]), job, paths_of(job)))
        for task in [task for task in self._waiting if task.number == message.get("kill")]:
            self._waiting.remove(task)
            self._tell(task, {"exit": KILLED})
        for stream, task in self._running.items():
            if task.number == message.get("kill"):
                task.killed = True
                ray.cancel(stream, force=True)
        self._start()

    def listen(self) -> None:
        """Take what the jobs have said since, and wait a moment for it."""
        ready: list[Any] = ray.wait(list(self._running), num_returns=1, timeout=LOOK_S)[0]
        for stream in ready:
            task = self._running[stream]
            try:
                news = ray.get(next(stream))
            except StopIteration:  # after its exit
                continue
            except RayError as error:
                self._lost(stream, task, error)
                continue
            for item in news:
                self._take(stream, task, item)

    def _start(self) -> None:
        """Send what may be sent: of a model that was not seen yet, one run alone tells how much memory its runs take."""
        for task in list(self._waiting):
            model = task.run["model"] if task.run is not None and task.shares_a_processor else None
            if model is not None and model not in self._seen_bytes and any(
                other.shares_a_processor and other.run is not None and other.run["model"] == model for other in self._running.values()
            ):  # fmt: skip
                continue
            self._waiting.remove(task)
            self._send(task)

    def _send(self, task: _Task) -> None:
        if task.paths and self._source is None:
            here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
            actor: Any = ray.remote(Source)
            self._source = actor.options(num_cpus=0, scheduling_strategy=here, max_concurrency=8).remote()
        asked = self._options(task)
        stream = self._on_node.options(**asked).remote(task.message, task.paths, self._source)
        self._running[stream] = task

    def _options(self, task: _Task) -> dict[str, Any]:
        """What a task asks Ray for."""
        nodes = [node for node in ray.nodes() if node["Alive"]]  # type: ignore[no-untyped-call]
        run = task.run
        if run is None:  # it looks at the devices, or plans: where these are
            gpus = any(node["Resources"].get("GPU") for node in nodes)
            return {"num_cpus": 1, "num_gpus": 1 if gpus else 0}
        cuda = run["device"] == "cuda"
        if task.is_alone:
            node = self._measuring_node(nodes, run["device"])
            return {
                "num_cpus": node["Resources"].get("CPU", 0), "num_gpus": node["Resources"].get("GPU", 0) if cuda else 0,
                "scheduling_strategy": NodeAffinitySchedulingStrategy(node["NodeID"], soft=False),
            }  # fmt: skip
        ranks = run["ranks"]
        asked: dict[str, Any] = {
            "num_cpus": ranks * (1 if cuda else run["threads"]),
            "num_gpus": ranks if cuda else 0,
        }
        if seen := self._seen_bytes.get(run["model"]):
            # Never more than a node has: it would wait for ever, where such a run has been done already.
            asked["memory"] = int(min(SPARE * seen, _most(nodes, "memory")))
        most = _most(nodes, "CPU")
        for name, wanted, there in (
            ("cores", asked["num_cpus"], most),
            ("GPUs", asked["num_gpus"], _most(nodes, "GPU")),
        ):
            if wanted > there:
                said = f"a run waits for a node with {wanted} {name}; the cluster's largest has {there:g}"
                self._tell(task, {"notice": said})
        if not cuda and task.message["conditions"]["jobs"] == 1:
            together = max(1, int(most // asked["num_cpus"]))
            task.message["conditions"] = {**task.message["conditions"], "jobs": together}
        return asked

    def _measuring_node(self, nodes: list[dict[str, Any]], device: str) -> dict[str, Any]:
        """The largest node, and the same one for as long as it lives: costs of two kinds of machine are not to be compared."""
        known = {node["NodeID"]: node for node in nodes}
        if (chosen := self._measuring.get(device)) in known:
            return known[chosen]
        kinds = ("GPU", "CPU") if device == "cuda" else ("CPU",)
        node = max(
            nodes, key=lambda node: ([node["Resources"].get(kind, 0) for kind in kinds], node["NodeID"])
        )
        self._measuring[device] = node["NodeID"]
        return node

    def _take(self, stream: Any, task: _Task, item: dict[str, Any]) -> None:
        if "names" in item:
            task.host, task.names = item["host"], item["names"]
        elif "file" in item:
            file = task.out / item["file"]
            try:
                file.parent.mkdir(parents=True, exist_ok=True)
                with file.open("ab") as sink:
                    sink.write(item["data"])
            except OSError as error:  # the store is here, and further runs would fail on it as well
                self._tell(task, {"unwritable": f"{error.strerror} ({file})"})
        elif "exit" in item:
            del self._running[stream]
            self._name_as_asked(task)
            if task.run is not None and task.peak_bytes:
                model = task.run["model"]
                self._seen_bytes[model] = max(self._seen_bytes.get(model, 0), task.peak_bytes)
            self._tell(task, item)
            self._start()
        else:
            if "memory" in item:
                task.peak_bytes = max(task.peak_bytes, item["memory"].get("resident_bytes", 0))
            if "unwritable" in item:
                item = {"unwritable": f"{item['unwritable']} on the node {task.host}"}
            self._tell(task, renamed(item, task.asked_names))

    def _lost(self, stream: Any, task: _Task, error: RayError) -> None:
        """The task ended without a word: it was ended, its node or its process is gone, or it could not begin there."""
        del self._running[stream]
        why = error.cause if isinstance(error, RayTaskError) else error
        said = f"{type(why).__name__}: {' '.join(str(why).split())[:300]}"
        if task.killed:
            self._tell(task, {"exit": KILLED})
        elif isinstance(error, RayTaskError) or task.tries == MOST_TRIES:
            with contextlib.suppress(OSError), (task.out / LOG).open("a", encoding="utf-8") as log:
                log.write(f"Ray could not do it on {task.host}:\n{said}\n")
            self._tell(task, {"exit": FAILED})
        else:
            lost = f"Ray lost a job with {task.host} ({type(why).__name__}): it is done again"
            self._tell(task, {"notice": lost, "again": True})
            for left in task.out.iterdir():
                shutil.rmtree(left) if left.is_dir() else left.unlink()
            task.tries, task.names = task.tries + 1, {}
            self._waiting.insert(0, task)
        self._start()

    def _name_as_asked(self, task: _Task) -> None:
        """In the answer, the paths that the node's stand for."""
        names, file = task.asked_names, task.out / ANSWER
        if not names or not file.is_file():
            return
        answer = json.loads(file.read_text(encoding="utf-8"))
        if "record" in answer:
            record = renamed(json.loads(answer["record"]), names)
            answer["record"] = json.dumps({**record, "run": task.run})
        else:
            answer = renamed(answer, names)
            for planned in answer.get("planned", ()):
                relative = any(not os.path.isabs(place) for place in planned["run"]["places"])
                planned["run"]["home"] = os.getcwd() if relative else None
        file.write_text(json.dumps(answer), encoding="utf-8")

    def _tell(self, task: _Task, event: dict[str, Any]) -> None:
        line = json.dumps({**event, "job": task.number}, ensure_ascii=False)
        os.write(self._events, line.encode("utf-8", "replace") + b"\n")


def _most(nodes: list[dict[str, Any]], resource: str) -> float:
    """Of a resource, what the largest node has."""
    return max((float(node["Resources"].get(resource, 0)) for node in nodes), default=0.0)


def main(events: int, address: str) -> None:
    """Serve jobs until stdin closes.

    Args:
        events: the file descriptor that events are written to.
        address: of a cluster's head; empty: as RAY_ADDRESS says, else a cluster of this machine alone.
    """
    address = address or os.environ.get("RAY_ADDRESS") or "local"
    try:
        if (named := re.fullmatch(r"([^/]+):(\d+)", address)) is not None:  # Ray itself would try for minutes
            socket.create_connection((named[1], int(named[2])), timeout=REACHED_S).close()
        ray.init(address=address, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
    except (OSError, ValueError, RuntimeError) as error:
        said = " ".join(str(error).split())[:200]
        print(
            f"no Ray cluster answers at {address!r}: {said}; name its head as in --engine ray:HOST:6379",
            file=sys.stderr,
        )
        sys.exit(WRONGLY_ASKED)
    asked: queue.Queue[str] = queue.Queue()
    threading.Thread(target=_read, args=(asked,), daemon=True).start()
    driver = Driver(events)
    while True:
        try:
            line = asked.get(block=driver.is_idle)
        except queue.Empty:
            driver.listen()
            continue
        if not line:
            break
        driver.obey(json.loads(line))
    ray.shutdown()


def _read(asked: queue.Queue[str]) -> None:
    for line in sys.stdin:
        asked.put(line)
    asked.put("")  # the program is gone


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2] if len(sys.argv) > 2 else "")
