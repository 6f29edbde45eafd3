"""Which stored runs can be compared with, verified, exported or analyzed, and why one can't: said before a model is loaded."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from pathlib import Path

from .. import defaults
from ..data.peft_files import CONFIG, adapter_folder
from ..errors import PeftbenchError, UsageError, unknown
from ..folders import expanded
from ..plugins.build import canonical
from ..records.record import Record, check_verifiable
from ..records.results import Result
from ..records.store import RECORD, Store, Stored
from ..records.weights import ADAPTER, HEAD, saved_steps
from ..tables.selection import Asked


def reference_among(results: Sequence[Result], asked: str) -> str:
    """What differences are taken to, as the records spell it: a method's SPEC, or `SPEC at RATE`.

    Raises:
        UsageError: none of the results is of that method, or of that rate. The default one may be missing.
    """
    known = {result.record.run.method for result in results}
    if asked in known or asked == defaults.REFERENCE:
        return asked
    wanted = Asked.of(asked)
    method = wanted.method
    if method not in known:
        with contextlib.suppress(UsageError):  # another name of it, or its fields in another order
            method = canonical(method)
    if method not in known:
        raise unknown("method of this store:", asked, sorted(known), "one of " + ", ".join(sorted(known)))
    if wanted.rate is None:
        return method
    runs = [result.record.run for result in results]
    rates = sorted({r.learning_rate for r in runs if r.kind == "training" and r.method == method})
    if wanted.rate not in rates:
        raise UsageError(
            f"--baseline {asked!r}: {method} has the learning rates {', '.join(f'{rate:g}' for rate in rates)}; name one of them"
        )
    return f"{method} at {wanted.rate!r}"


def verifiable(store: Path, run: str) -> Stored:
    """The run to verify.

    Raises:
        UsageError: there is no such run, or it can't be verified.
    """
    stored = Store(store).find(run)
    check_verifiable(stored.record)
    return stored


def exportable(store: Path, start: str, to: Path, step: int | None = None) -> Stored:
    """The run to export, and everything that can be said against it before a model is loaded.

    Raises:
        UsageError: there is no such run, it trained nothing, its weights or those of the step are gone, or `to` holds something.
    """
    stored = Store(store).find(start)
    record, run = stored.record, stored.record.run
    said = f"run {record.key[:12]} ({run.method})"
    if record.status != "ok":
        raise UsageError(f"{said} is {record.status}: {record.reason}; there is nothing to export")
    if run.kind != "training":
        raise UsageError(
            f"{said} is a {run.kind} run, which keeps no weights; see the training runs in `peftbench list runs`"
        )
    if step is not None:
        _check_step(said, record, stored.folder, step)
    elif not (stored.folder / ADAPTER).is_file() and (record.parameters or {}).get("stored"):
        raise UsageError(
            f"the weights of {said} are not there (not kept, or deleted); run it with --keep-weights into another --store"
        )
    if step is None and not (stored.folder / HEAD).is_file() and (record.parameters or {}).get("head"):
        raise UsageError(
            f"the head of {said} is missing in {str(stored.folder)!r}; run it again into another --store"
        )
    if to.exists() and not to.is_dir():
        raise UsageError(f"--to {str(to)!r} is a file; name a folder that is new or empty")
    if to.is_dir() and any(to.iterdir()):
        raise UsageError(f"--to {str(to)!r} is not empty; name a folder that is new or empty")
    return stored


def _check_step(said: str, record: Record, folder: Path, step: int) -> None:
    known, training = saved_steps(folder), record.training or {}
    if step in known:
        return
    if step == len(training.get("step_s") or ()):
        raise UsageError(f"step {step} is the end of {said}; leave --step out")
    if not known and training.get("save_every"):
        raise UsageError(f"the weights of {said} after its steps are not there: deleted, or those of a whole model, which --keep-weights keeps")  # fmt: skip
    if not known:
        raise UsageError(
            f"{said} kept the weights of its end alone; `peftbench run` with --save-every N saves those after every N steps"
        )
    shown = ", ".join(map(str, known[:20])) + (", ..." if len(known) > 20 else "")
    raise UsageError(f"{said} kept no weights after step {step}; it has those of {shown}")


def analyzable(asked: str, store: Path) -> Path:
    """The folder of a checkpoint, or of a run: named itself, by the beginning of its key, or by its name on the hub.

    Raises:
        UsageError: there is none of these, or the run kept no weights.
    """
    path = expanded(asked, "run")
    if not path.is_dir() and "/" in asked:  # which is in no key
        return adapter_folder(asked).resolve()
    if not path.is_dir():
        stored = Store(store).find(asked)
        _check_weights(stored.record, stored.folder)
        return stored.folder.resolve()
    if not (path / CONFIG).is_file():
        if not (path / RECORD).is_file():
            raise UsageError(
                f"{asked!r} holds neither {CONFIG} nor {RECORD}; name a run or a checkpoint's folder"
            )
        try:
            _check_weights(Record.from_file(path / RECORD), path)
        except (PeftbenchError, UnicodeDecodeError) as error:
            raise UsageError(f"{asked!r} can't be analyzed: {error}") from error
    return path.resolve()


def _check_weights(record: Record, folder: Path) -> None:
    if record.run.kind != "training" or record.status != "ok" or not (folder / ADAPTER).is_file():
        raise UsageError(
            f"run {record.key[:12]} ({record.run.method}, {record.run.kind}, {record.status}) kept no weights; analyze a good "
            "training run of a low-rank method"
        )
