"""Whatever the hub does, one line says it, soon."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest
from huggingface_hub import constants

from peftbench.data import hub_client
from peftbench.data.hub import Repository, snapshot
from peftbench.errors import UsageError

from ..support.hub import SmallHub


def gated(hub: SmallHub) -> None:
    hub.repositories["org/model"].gated = True


def private(hub: SmallHub) -> None:
    hub.repositories["org/model"].private = True


def gone(hub: SmallHub) -> None:
    del hub.repositories["org/model"]


def failing(hub: SmallHub) -> None:
    hub.status = 500


def limited(hub: SmallHub) -> None:
    hub.status, hub.headers = 429, {"Retry-After": "30"}


def silent(hub: SmallHub) -> None:
    hub.silent_s = 2


def broken(hub: SmallHub) -> None:
    hub.resets = True


SAID: dict[Callable[[SmallHub], None], str] = {
    gated: r"it is gated, and the hub refuses it \(401\); accept its conditions",
    private: r"the hub has nothing of this name, or it is private \(401\)",
    gone: r"the hub has nothing of this name, or it is private \(401\)",
    failing: r"the hub has an error of its own \(500\)",
    limited: r"the hub limits requests \(429\); try again in 30 s",
    silent: r"the hub \(.*\) was silent for 0.3 s",
    broken: r"the connection to the hub broke",
}


@pytest.mark.parametrize("trouble", SAID, ids=lambda trouble: trouble.__name__)
@pytest.mark.parametrize("where", ["name", "file"])
def test_each_trouble_has_its_line(
    trouble: Callable[[SmallHub], None], where: str, hub: SmallHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub_client, "SILENCE_S", 0.3)
    monkeypatch.setattr("time.sleep", lambda seconds: None)  # between the client's attempts
    commit = hub.push("org/model", {"config.json": b"{}"})
    at = "" if where == "name" else f"@{commit}"
    trouble(hub)
    started = time.monotonic()
    with pytest.raises(UsageError, match=rf"^model 'org/model{at}': {SAID[trouble]}") as raised:
        snapshot(Repository.from_text(f"org/model{at}"), lambda name: True)
    assert time.monotonic() - started < 3
    assert "\n" not in str(raised.value)


def test_a_token_that_may_not_read_is_not_asked_for_again(
    hub: SmallHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.push("org/model", {"config.json": b"{}"})
    gated(hub)
    monkeypatch.setenv("HF_TOKEN", "hf_other")
    with pytest.raises(UsageError, match=r"refuses it \(403\); ask for access") as raised:
        snapshot(Repository.from_text("org/model"), lambda name: True)
    assert "hf_other" not in str(raised.value)
    monkeypatch.setenv("HF_TOKEN", hub.token)
    assert snapshot(Repository.from_text("org/model"), lambda name: True)[1]


def test_an_unknown_revision(hub: SmallHub) -> None:
    hub.push("org/model", {"config.json": b"{}"})
    with pytest.raises(UsageError, match="'org/model@v9': it has no such revision"):
        Repository.from_text("org/model@v9").commit()


def test_a_cache_that_cant_be_written(hub: SmallHub, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.push("org/model", {"config.json": b"{}"})
    monkeypatch.setattr("os.makedirs", refuse)
    with pytest.raises(UsageError, match="the hub's cache .* can't be written"):
        snapshot(Repository.from_text("org/model"), lambda name: True)


def refuse(*given: object, **named: object) -> None:
    raise OSError(30, "Read-only file system")


@pytest.mark.parametrize(
    ("endpoint", "port"), [("http://host", 80), ("https://host", 443), ("http://host:8080", 8080)]
)
def test_the_port_follows_the_address(endpoint: str, port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, int]] = []

    def connect(address: tuple[str, int], timeout: float) -> None:
        asked.append(address)
        raise OSError

    for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(constants, "ENDPOINT", endpoint)
    monkeypatch.setattr("socket.create_connection", connect)
    assert not hub_client.in_reach()
    assert asked == [("host", port)]
