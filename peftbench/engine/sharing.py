"""A sweep among others on one store: which runs are this program's to do, and which another one does now."""

from __future__ import annotations

from collections.abc import Iterable
from enum import Enum
from pathlib import Path

from ..records.claims import Claims, Owner
from ..records.store import Store, Stored


class Turn(Enum):
    """Whose a run is."""

    MINE = "mine"
    ANOTHERS = "another's"
    CHANGED = "changed"  # it was finished while the claim was made: look again


class Sharing:
    """One program's part in the work on a store."""

    def __init__(self, store: Store, keys: Iterable[str] = ()) -> None:
        """`keys` of runs of which any result that comes from now on is another program's."""
        self.store, self.claims = store, Claims(store.root)
        # Of those, and of runs that others were seen at: what the store held then.
        self._before = {key: _folder_of(store.get(key)) for key in keys}
        self._said = {self.claims.me.token}  # it holds the claim of a run that stands in its own list twice

    def is_anew(self, stored: Stored | None, key: str) -> bool:
        """Whether another program put that result there while this one waited for it."""
        return stored is not None and key in self._before and stored.folder != self._before[key]

    def owner_once(self, key: str) -> Owner | None:
        """Who does a run; None where that program was named before, or is this one."""
        owner = self.claims.owner(key)
        if owner.token in self._said:
            return None
        self._said.add(owner.token)
        return owner

    def turn(self, key: str, stored: Stored | None) -> Turn:
        """Claim a run.

        Args:
            stored: what the store was seen to hold of it.

        Raises:
            UsageError: the store can't be written.
        """
        before = _folder_of(stored)
        try:
            mine = self.claims.take(key)
        except OSError as error:
            raise self.store.unwritable_for(error) from error
        if not mine:
            self._before.setdefault(key, before)
            return Turn.ANOTHERS
        if _folder_of(self.store.get(key)) == before:
            return Turn.MINE
        self.claims.give_up(key)
        self._before.setdefault(key, before)
        return Turn.CHANGED


def _folder_of(stored: Stored | None) -> Path | None:
    return None if stored is None else stored.folder
