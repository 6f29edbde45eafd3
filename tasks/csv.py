"""The user's own CSV file (or folder of split files): `csv:path=reviews.csv:text=review:label=stars`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import pandas as pd

from peftbench import task

from ._own import OwnTable


@task("csv", version="1")
@dataclass(frozen=True)
class Csv(OwnTable):
    """Your own labelled texts in CSV; gz, bz2, xz and zst are read too."""

    endings: ClassVar = (".csv", ".csv.gz")

    @staticmethod
    def read(file: Path) -> pd.DataFrame:
        return pd.read_csv(file, dtype=str, keep_default_na=False)
