"""The user's own JSON Lines file (or folder of split files): `jsonl:path=reviews.jsonl:text=review:label=stars`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from peftbench import task

from ._own import OwnRows


@task("jsonl", version="3")
@dataclass(frozen=True)
class JsonLines(OwnRows):
    """Your own texts in JSON Lines, with labels or numbers; gz, bz2, xz and zst are read too."""

    kind: ClassVar = "jsonl"
