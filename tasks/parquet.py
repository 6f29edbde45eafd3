"""The user's own Parquet file (or folder of split files): `parquet:path=reviews.parquet:text=review:label=stars`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from peftbench import task

from ._own import OwnRows


@task("parquet", version="2")
@dataclass(frozen=True)
class Parquet(OwnRows):
    """Your own texts in Parquet, with labels or numbers."""

    kind: ClassVar = "parquet"
