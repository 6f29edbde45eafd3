"""The user's own CSV file (or folder of split files): `csv:path=reviews.csv:text=review:label=stars`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from peftbench import task

from ._own import OwnRows


@task("csv", version="3")
@dataclass(frozen=True)
class Csv(OwnRows):
    """Your own texts in CSV or TSV, with labels or numbers; gz, bz2, xz and zst are read too."""

    kind: ClassVar = "csv"
