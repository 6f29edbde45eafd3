"""A folder of CSV files in the hub's layout, by the program's own reader: `hub:` of it gives the rows that `csv:` gives."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa

from .files import csv_as_text


def csv_splits(folder: Path, config: str | None) -> dict[str, Any] | None:
    """Its splits, each a `datasets.Dataset` of texts; None where its files are no CSV.

    Raises:
        UsageError: a file does not read.
    """
    import datasets
    from datasets.packaged_modules.csv.csv import CsvConfig

    builder = datasets.load_dataset_builder(str(folder), config)
    if not isinstance(builder.config, CsvConfig):
        return None
    return {
        str(split): datasets.Dataset(
            pa.Table.from_batches([batch for file in files for batch in csv_as_text(Path(file))])
        )
        for split, files in (builder.config.data_files or {}).items()
    }
