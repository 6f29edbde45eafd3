"""A run in several processes: torch's elastic launcher starts them, and all end when one does not end well.

Rank 0 speaks and writes for the run. The others have folders of their own, which are gone afterwards; what the one that failed printed
is then the end of the run's log.
"""

from __future__ import annotations

import contextlib
import datetime
import faulthandler
import json
import logging
import os
import shutil
import signal
import tempfile
import threading
import time
import traceback
import uuid
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn

import torch
from torch import distributed as dist
from torch._C._distributed_c10d import FileStore
from torch.distributed.elastic.multiprocessing.api import DefaultLogsSpecs
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from .. import progress
from ..engine.answers import ANSWER, FAILED, LOG, answer_in, exit_reason, log_tail
from ..errors import PeftbenchError, UsageError
from ..records.record import Record
from ..records.runs import Conditions, Run
from ..records.store import unwritable
from . import ranks
from .execute import execute

Answer = dict[str, Any]
LOOK_S = 0.1  # between looks at whether the others live
OTHERS_END_S = (
    5.0  # a rank whose messages fail waits so long for the launcher to end it with the one that is gone
)
# That one waits for another, which may write a large file meanwhile: the launcher ends all if one is gone, the program's time-out if none is.
PATIENCE = datetime.timedelta(days=7)
OF_MESSAGES = ("gloo", "NCCL", "DistBackendError", "DistNetworkError", "DistStoreError")


class RankLost(PeftbenchError):
    """A rank ended without a word."""


def executed(run: Run, out: Path, conditions: Conditions) -> Record:
    """Do a run, in this process or in several.

    Raises:
        RankLost, and what `execute` raises where it is one process.
    """
    if run.ranks == 1:
        return execute(run, out, conditions)
    answer = on_ranks(run, out, lambda home: {"record": execute(run, home, conditions).to_text()})
    return Record.from_text(answer["record"])


def on_ranks(run: Run, out: Path, do: Callable[[Path], Answer]) -> Answer:
    """Do a run in its processes; returns rank 0's answer, or that of the one which failed.

    Args:
        do: what each does, given a folder; its answer holds the text of a record.

    Raises:
        RankLost: a rank was killed, or ended in another way without an answer.
        UsageError: this process has a GPU already, which a fork can't use, or there are fewer than ranks.
    """
    if torch.cuda.is_initialized():
        raise UsageError("--gpus-per-run needs processes of its own; leave --engine inline out")
    if run.device == "cuda" and (there := torch.cuda.device_count()) < run.ranks:
        raise UsageError(f"--gpus-per-run {run.ranks}: the job sees {there} of them here; ask for as many")
    logging.getLogger("torch.distributed.elastic").setLevel(logging.CRITICAL)  # what it says is said below
    homes = [out, *(out / f"rank-{rank}" for rank in range(1, run.ranks))]
    for home in homes[1:]:
        home.mkdir()
    with tempfile.TemporaryDirectory(prefix="peftbench-") as meeting, _meeting_by_files():
        rank, code = _launched(run, Path(meeting), homes, do)
    said = log_tail(homes[rank]) if code else []
    if rank:
        with (out / LOG).open("a", encoding="utf-8") as log:
            log.write("\n".join([f"Rank {rank} of {run.ranks}:", *said, ""]))
    answer = answer_in(homes[rank])
    for home in homes[1:]:
        shutil.rmtree(home, ignore_errors=True)
    if answer is None:
        (out / ANSWER).unlink(missing_ok=True)
        last = f": {said[-1].strip()}" if said and code > 0 else ""
        raise RankLost(f"rank {rank} of {run.ranks} was lost: {exit_reason(code)}{last}")
    return answer


@contextlib.contextmanager
def _meeting_by_files() -> Iterator[None]:
    """For the block, the launcher serves no ranks by a thread: one that asks for a name while the next rank is forked leaves it a lock that
    nobody opens, and all would wait for ever."""
    name = "TORCH_DISABLE_SHARE_RDZV_TCP_STORE"
    before, os.environ[name] = os.environ.get(name), "1"
    try:
        yield
    finally:
        del os.environ[name]
        if before is not None:
            os.environ[name] = before


def _launched(run: Run, meeting: Path, homes: list[Path], do: Callable[[Path], Answer]) -> tuple[int, int]:
    """Start the ranks and wait for them; returns 0 and 0, or the first that failed and the code of its exit.

    Args:
        meeting: a folder of this machine, by whose files they find each other.
    """
    config = LaunchConfig(
        min_nodes=1, max_nodes=1, nproc_per_node=run.ranks, run_id=str(uuid.uuid4()), max_restarts=0, monitor_interval=LOOK_S,
        start_method="fork", rdzv_backend="c10d", rdzv_endpoint=str(meeting / "launcher"), rdzv_configs={"store_type": "file"},
        logs_specs=DefaultLogsSpecs(log_dir=os.devnull),  # else two folders of each run stay where temporary files are
        local_addr="127.0.0.1",  # else the host's name, which may lead nowhere
        # Nobody sends it: its handlers would stay in this process, and an interrupt would be an error of a run. The ranks would have
        # them too, and one that waits for another in a library handles no signal.
        signals_to_handle="SIGUSR2",
    )  # fmt: skip
    try:
        with warnings.catch_warnings():  # as for the worker's own forks
            warnings.filterwarnings("ignore", "This process .* is multi-threaded", DeprecationWarning)
            elastic_launch(config, _rank)(meeting, homes, run.device, do, os.getpid())
    except ChildFailedError as error:
        rank, failure = next(iter(error.failures.items()))
        return rank, failure.exitcode
    return 0, 0


def _rank(meeting: Path, homes: list[Path], device: str, do: Callable[[Path], Answer], launcher: int) -> None:
    """What each process does."""
    rank = int(os.environ["RANK"])
    with contextlib.suppress(AttributeError, RuntimeError):  # on Linux: it writes nothing more, at once
        torch.multiprocessing._prctl_pr_set_pdeathsig(signal.SIGKILL)  # type: ignore[attr-defined]
    threading.Thread(target=_end_with, args=(launcher,), daemon=True).start()
    if device == "cuda":  # before anything touches CUDA
        _see_one_gpu(rank)
    with contextlib.ExitStack() as quiet:
        if rank:
            log = quiet.enter_context((homes[rank] / LOG).open("a", encoding="utf-8", buffering=1))
            for descriptor in (1, 2):
                os.dup2(log.fileno(), descriptor)
            quiet.enter_context(contextlib.redirect_stdout(log))
            quiet.enter_context(contextlib.redirect_stderr(log))
            faulthandler.enable(2, all_threads=False)
            quiet.enter_context(progress.reported_to(lambda event: None))
        backend = "cpu:gloo,cuda:nccl" if device == "cuda" else "gloo"
        store = FileStore(str(meeting / "ranks"), len(homes))
        dist.init_process_group(backend, timeout=PATIENCE, store=store, rank=rank, world_size=len(homes))
        torch.set_num_threads(max(1, torch.get_num_threads() // len(homes)))
        try:
            answer = do(homes[rank])
            (homes[rank] / ANSWER).write_text(json.dumps(answer), encoding="utf-8")
        except Exception as error:  # noqa: BLE001  said to the program by this process's end
            traceback.print_exc()
            quiet.close()
            if (said := unwritable(error)) is not None:
                progress.send({"unwritable": said})
            _fail(f"{type(error).__name__}: {error}")
    record = Record.from_text(answer["record"])
    if record.status == "ok":
        ranks.together()  # none leaves while another one still listens
        dist.destroy_process_group()
        return
    _fail(record.reason or "")


def _see_one_gpu(rank: int) -> None:
    """Leave this process the rank's GPU alone, which is then the first of this process, for torch too."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    os.environ["CUDA_VISIBLE_DEVICES"] = visible.split(",")[rank] if visible else str(rank)
    os.environ["LOCAL_RANK"] = "0"  # by which a mesh chooses where nothing is on a GPU yet


def _fail(reason: str) -> NoReturn:
    """End this process; one that failed because another one is gone lets the launcher see that one first."""
    if any(word in reason for word in OF_MESSAGES):
        time.sleep(OTHERS_END_S)
    raise SystemExit(FAILED)


def _end_with(launcher: int) -> None:
    """End this process when the launcher is gone."""
    while os.getppid() == launcher:
        time.sleep(LOOK_S)
    os._exit(FAILED)
