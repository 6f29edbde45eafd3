"""What comes from the Hugging Face hub: whether it can be reached, and data sets."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import huggingface_hub

from ..errors import UsageError
from ..folders import expanded
from .csv_splits import csv_splits


def in_reach() -> bool:
    """Whether the hub's host answers at all: the client itself would try for half a minute."""
    if any(os.environ.get(name) for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy")):
        return True  # only the client knows the way
    address = urlsplit(huggingface_hub.constants.ENDPOINT)
    try:
        socket.create_connection((address.hostname or "", address.port or 443), timeout=5).close()
    except OSError:
        return False
    return True


def dataset(path: str, config: str | None) -> dict[str, Any]:
    """The splits of a data set, each a `datasets.Dataset`, from a folder or from the hub.

    Raises:
        UsageError: it is not there, or does not load.
    """
    import datasets

    folder = expanded(path, "path")
    is_folder = folder.is_dir()
    if not is_folder and (folder.is_absolute() or path.startswith(("./", "../", "~"))):
        raise UsageError(f"data folder {path!r} does not exist")
    try:
        if is_folder and any((folder / name).is_file() for name in ("dataset_dict.json", "state.json")):
            found = datasets.load_from_disk(str(folder))
        else:
            found = csv_splits(folder, config) if is_folder else None
            found = found or load_splits(str(folder) if is_folder else path, config)
    except UsageError:
        raise
    except Exception as error:
        said = " ".join(str(error).split())[:200]
        raise UsageError(
            f"data set {path!r} does not load: give a folder that datasets' save_to_disk wrote, one with train.csv, .jsonl or "
            f".parquet, or the id of a data set of the hub ({type(error).__name__}: {said})"
        ) from error
    return dict(found) if isinstance(found, dict) else {"train": found}


def load_splits(path: str, config: str | None, split: str | None = None) -> Any:
    """A data set by folder or hub id; of one that is still a script on the hub, the hub's own conversion to Parquet."""
    import datasets

    remote = not Path(path).is_dir()
    with without_bars(), _offline(remote and not _may_ask()):
        try:
            return datasets.load_dataset(path, config, split=split)
        except RuntimeError as error:
            if not remote or "script" not in str(error):
                raise
            return datasets.load_dataset(path, config, split=split, revision="refs/convert/parquet")


@contextmanager
def without_bars() -> Iterator[None]:
    """For the block, `datasets` draws no progress bars; then it is as it was."""
    import datasets

    had_bars = not datasets.are_progress_bars_disabled()
    datasets.disable_progress_bars()
    try:
        yield
    finally:
        if had_bars:
            datasets.enable_progress_bars()


def _may_ask() -> bool:
    """Whether nobody forbids the hub, and it answers."""
    return not (os.environ.get("HF_HUB_OFFLINE") or os.environ.get("HF_DATASETS_OFFLINE")) and in_reach()


@contextmanager
def _offline(wanted: bool) -> Iterator[None]:
    """For the block, `datasets` asks no network where that is wanted: what was downloaded before still serves."""
    import datasets

    before = datasets.config.HF_HUB_OFFLINE
    datasets.config.HF_HUB_OFFLINE = wanted or before
    try:
        yield
    finally:
        datasets.config.HF_HUB_OFFLINE = before
