"""The user's own JSON Lines file (or folder of split files): `jsonl:path=reviews.jsonl:text=review:label=stars`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import pandas as pd

from peftbench import task

from ._own import OwnTable


@task("jsonl", version="1")
@dataclass(frozen=True)
class JsonLines(OwnTable):
    """Your own labelled texts in JSON Lines; gz, bz2, xz and zst are read too."""

    endings: ClassVar = (".jsonl", ".jsonl.gz")

    @staticmethod
    def read(file: Path) -> pd.DataFrame:
        return pd.read_json(file, lines=True, dtype=False)
