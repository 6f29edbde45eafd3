"""Who does a run: one program at a time, none for ever, and no clock is believed."""

from __future__ import annotations

import dataclasses
import errno
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from peftbench.records import claims
from peftbench.records.claims import FOLDER, Claims, Owner


def written(root: Path, key: str, owner: Owner) -> Path:
    """A claim that another program left."""
    (root / FOLDER).mkdir(exist_ok=True)
    path = root / FOLDER / key
    path.write_text(json.dumps(dataclasses.asdict(owner)))
    return path


def gone() -> Owner:
    """A process of this machine that has ended."""
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    return dataclasses.replace(Owner.here(), process=ended.pid)


def far() -> Owner:
    return dataclasses.replace(Owner.here(), host="far", machine="far 1", process=7)


def test_one_program_has_a_run_until_it_gives_it_up(tmp_path: Path) -> None:
    one, two = Claims(tmp_path), Claims(tmp_path)
    assert one.take("a") and not two.take("a") and not one.take("a") and two.take("b")
    assert two.owner("a") == one.me and str(os.getpid()) in two.owner("a").said
    two.give_up("a")  # not its own
    assert not two.take("a")
    one.close()
    assert two.take("a")
    two.close()
    assert list(tmp_path.iterdir()) == []


def test_a_process_of_this_machine_that_is_gone_has_no_claim(tmp_path: Path) -> None:
    path, mine = written(tmp_path, "a", gone()), Claims(tmp_path)
    assert mine.take("a") and mine.owner("a") == mine.me
    assert list(path.parent.iterdir()) == [path]
    path.write_text(json.dumps(dataclasses.asdict(dataclasses.replace(Owner.here(), token="other"))))  # alive
    assert not mine.take("a")


@pytest.mark.parametrize("hours", [-1, 0, 1])
def test_a_claim_without_a_sign_of_life_expires_whatever_the_clocks_say(
    hours: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = {"s": 1000.0}
    monkeypatch.setattr("peftbench.records.claims.time.monotonic", lambda: now["s"])
    path, mine = written(tmp_path, "a", far()), Claims(tmp_path)
    clock = time.time() + 3600 * hours
    for beat in range(3):  # it lives
        os.utime(path, (clock + beat, clock + beat))
        assert not mine.take("a")
        now["s"] += claims.EXPIRY_S - 1
    now["s"] += 2
    assert mine.take("a") and mine.owner("a") == mine.me


def test_a_claim_that_is_not_whole_is_anothers_until_it_expires(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, mine = written(tmp_path, "a", far()), Claims(tmp_path)
    path.write_text('{"token": ')
    assert not mine.take("a") and mine.owner("a").said == "another program"
    monkeypatch.setattr(claims, "EXPIRY_S", 0.0)
    assert mine.take("a")


def test_of_two_that_find_a_dead_claim_one_has_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The slower one moved the dead claim's successor aside, saw it, and put it back."""
    path = written(tmp_path, "a", gone())
    one, two = Claims(tmp_path), Claims(tmp_path)
    rename = Path.rename

    def late(self: Path, target: Path) -> Path:
        monkeypatch.setattr(Path, "rename", rename)
        assert two.take("a")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", late)
    assert not one.take("a")
    assert two.owner("a") == two.me and list(path.parent.iterdir()) == [path]


def test_a_folder_that_another_program_takes_away_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, mine = os.open, Claims(tmp_path)

    def after_its_end(*given: object) -> int:
        monkeypatch.setattr(os, "open", made)
        (tmp_path / FOLDER).rmdir()
        return made(*given)  # type: ignore[arg-type]

    monkeypatch.setattr(os, "open", after_its_end)
    assert mine.take("a")
    mine.close()


def test_whoever_may_write_the_store_may_claim_and_a_claim_that_a_full_disk_cut_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*given: object) -> None:
        raise OSError(errno.ENOSPC, "full")

    tmp_path.chmod(0o2775)
    one, two = Claims(tmp_path), Claims(tmp_path)
    with monkeypatch.context() as patched, pytest.raises(OSError, match="full"):
        patched.setattr(json, "dump", full)
        one.take("a")
    assert two.take("a") and (tmp_path / FOLDER).stat().st_mode & 0o7777 == 0o2775
    two.close()


def test_an_owner_gives_signs_of_life(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(claims, "BEAT_S", 0.01)
    mine = Claims(tmp_path)
    assert mine.take("a")
    path = tmp_path / FOLDER / "a"
    os.utime(path, (1, 1))
    until = time.monotonic() + 10
    while path.stat().st_mtime == 1 and time.monotonic() < until:
        time.sleep(0.01)
    assert path.stat().st_mtime > 1
    mine.close()
