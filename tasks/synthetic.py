"""A made-up task that needs no download: is a text more about animals or about tools?"""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import TYPE_CHECKING

from peftbench import Classification, task

if TYPE_CHECKING:
    import datasets

_WORDS = {"animal": ("cat", "dog", "owl", "fox", "bee"), "tool": ("saw", "nut", "awl", "jig", "pin")}


@task("synthetic", version="1")
@dataclass(frozen=True)
class Synthetic:
    """Short texts of animal and tool words; the label is which kind is more frequent. Random, but always the same."""

    train_items: int = 512
    test_items: int = 200
    words: int = 5
    longest: int = 0  # words of the longest text, where lengths are to differ; 0: all have `words`

    def __post_init__(self) -> None:
        if min(self.train_items, self.test_items) < 2 or self.words < 1 or self.words % 2 == 0:
            raise ValueError("train_items and test_items must be 2 or more, words odd")
        if self.longest and self.longest < self.words:
            raise ValueError(f"longest must be at least words ({self.words}), not {self.longest}")

    @property
    def objective(self) -> Classification:
        return Classification(labels=tuple(_WORDS))

    def fingerprint(self) -> str:
        return "made by its own source"

    def splits(self) -> dict[str, datasets.Dataset]:
        import datasets

        sizes = {"train": self.train_items, "validation": self.test_items, "test": self.test_items}
        return {
            name: datasets.Dataset.from_list([self._item(random.Random(f"{name} {i}")) for i in range(size)])
            for name, size in sizes.items()
        }

    def _item(self, draw: random.Random) -> dict[str, object]:
        words = draw.randrange(self.words, self.longest + 1, 2) if self.longest else self.words
        kinds = [draw.choice(list(_WORDS)) for _ in range(words)]
        majority = max(_WORDS, key=kinds.count)
        text = " ".join(draw.choice(_WORDS[kind]) for kind in kinds)
        return {"text": text, "label": list(_WORDS).index(majority)}
