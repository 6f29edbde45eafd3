"""The client of the Hugging Face hub: whether it may ask, how long it waits, and its errors in plain words."""

from __future__ import annotations

import functools
import os
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

import huggingface_hub
from huggingface_hub import constants, errors

from ..errors import UsageError

SILENCE_S = 30.0  # after which a hub that sends nothing is given up
CONNECTION_S = 10.0
TOKEN = "a token (HF_TOKEN, or `hf auth login`)"


def is_offline() -> bool:
    """Whether the user forbids to ask the hub."""
    return bool(constants.HF_HUB_OFFLINE)


def in_reach() -> bool:
    """Whether the hub's host answers at all: the client itself would try for half a minute."""
    if any(os.environ.get(name) for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy")):
        return True  # only the client knows the way
    address = urlsplit(constants.ENDPOINT)
    port = address.port or (80 if address.scheme == "http" else 443)
    try:
        socket.create_connection((address.hostname or "", port), timeout=5).close()
    except OSError:
        return False
    return True


def may_ask() -> bool:
    """Whether nobody forbids the hub, and it answers."""
    return not is_offline() and in_reach()


@contextmanager
def asking(what: str) -> Iterator[None]:
    """For the block, what goes wrong between the client and the hub is one line about `what`.

    Raises:
        UsageError: something did.
    """
    _make_patient()
    try:
        with without_client_bars():
            yield
    except UsageError:
        raise
    except Exception as error:
        if (said := reason(error)) is None:
            raise
        raise UsageError(f"{what}: {said}") from error


def reason(error: BaseException) -> str | None:
    """What went wrong with the hub, from an error of its client or from what led to it; None: it is not about the hub."""
    chain: list[BaseException] = []
    link: BaseException | None = error
    while link is not None and link not in chain:
        chain.append(link)
        link = link.__cause__ or link.__context__
    return next((said for link in chain if (said := _reason(link)) is not None), None)


def _reason(error: BaseException) -> str | None:
    response = getattr(error, "response", None)
    status = getattr(response, "status_code", None)
    has_token = huggingface_hub.get_token() is not None
    if isinstance(error, Unanswered):
        return str(error)
    if isinstance(error, errors.GatedRepoError):
        do = (
            "ask for access on its page"
            if has_token
            else f"accept its conditions on its page and give {TOKEN}"
        )
        return f"it is gated, and the hub refuses it ({status}); {do}"
    if isinstance(error, errors.RevisionNotFoundError):
        return "it has no such revision; see its branches and tags on its page"
    if isinstance(error, errors.RepositoryNotFoundError):
        do = "see that your token may read it" if has_token else f"give {TOKEN} if it is private"
        return f"the hub has nothing of this name, or it is private ({status}); check the spelling, or {do}"
    if isinstance(error, errors.OfflineModeIsEnabled):
        return "it is not complete here, and the hub may not be asked (HF_HUB_OFFLINE is set)"
    if isinstance(error, errors.HfHubHTTPError) and status is not None:
        if status in (401, 403):
            return f"the hub refuses it ({status}); give {TOKEN} that may read it"
        if status >= 500:
            return f"the hub has an error of its own ({status}); try again later"
        return f"the hub answers {status}; see its page"
    if isinstance(error, errors.FileMetadataError):
        return f"the server at {constants.ENDPOINT} is not a hub; check HF_ENDPOINT and proxies"
    if "httpx" in type(error).__module__:
        return f"the connection to the hub broke ({type(error).__name__}); try again, the downloaded part is kept"
    if isinstance(error, PermissionError) or getattr(error, "errno", None) in (28, 30, 122):
        return f"the hub's cache {constants.HF_HUB_CACHE!r} can't be written ({error}); make room, or set HF_HOME"
    return None


class Unanswered(Exception):
    """The hub does not answer a request, or asks for patience. The client tries again for minutes on its own errors alone."""


@functools.cache
def _make_patient() -> None:
    """Let the hub's client wait for `SILENCE_S`, and not more, wherever it asks."""
    from huggingface_hub.utils._http import default_client_factory

    def client() -> Any:
        made = default_client_factory()
        setattr(made, "send", _patient(made.send))  # noqa: B010  with another transport it would pass by proxies
        return made

    huggingface_hub.set_client_factory(client)


def _patient(send: Callable[..., Any]) -> Callable[..., Any]:
    def patient(request: Any, **options: Any) -> Any:
        asked = request.extensions.get("timeout") or {}
        longest = {"connect": CONNECTION_S, "read": SILENCE_S, "write": SILENCE_S, "pool": SILENCE_S}
        limits = {name: min(asked.get(name) or most, most) for name, most in longest.items()}
        request.extensions["timeout"] = limits
        try:
            response = send(request, **options)
        except Exception as error:
            raise _unanswered(error, limits["read"]) from error
        if response.status_code == 429:
            wait = response.headers.get("Retry-After")
            wait = f" in {wait} s" if wait and wait.isdigit() else " later"
            response.close()
            raise Unanswered(f"the hub limits requests (429); try again{wait}, or give {TOKEN}")
        if options.get("stream"):
            inner = response.iter_bytes

            def iter_bytes(*args: Any, **named: Any) -> Iterator[bytes]:
                try:
                    yield from inner(*args, **named)
                except Exception as error:
                    raise _unanswered(error, limits["read"]) from error

            response.iter_bytes = iter_bytes
        return response

    return patient


def _unanswered(error: Exception, limit_s: float) -> Exception:
    """A time-out as an error that the client does not answer by trying again; any other as it is."""
    if not any(kind.__name__ == "TimeoutException" for kind in type(error).__mro__):
        return error
    return Unanswered(
        f"the hub ({constants.ENDPOINT}) was silent for {limit_s:g} s; try again, the downloaded part is kept"
    )


@contextmanager
def without_client_bars() -> Iterator[None]:
    """For the block, the hub's client draws no progress bars."""
    from huggingface_hub.utils.tqdm import (
        are_progress_bars_disabled,
        disable_progress_bars,
        enable_progress_bars,
    )

    if are_progress_bars_disabled():
        yield
        return
    disable_progress_bars()
    try:
        yield
    finally:
        enable_progress_bars()
