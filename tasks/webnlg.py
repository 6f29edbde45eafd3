"""WebNLG 2017 (Gardent et al. 2017): DBpedia triples to a text, as in the LoRA paper's Table 14.

Of a lexicalisation only those marked "good" count. Entries of a category that training has are "seen", others "unseen", and
every metric is given for all, for each of both by itself. From `--data-dir DIR` with `webnlg/train.json` and the like, the
challenge's own documents, packed or not (the LoRA paper's code has them as webnlg_challenge_2017/{train,dev,test}.json).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

from peftbench import task

from ._triples import Triples, linear

# The LoRA paper's code lists ten, its text says nine.
SEEN = frozenset(
    (
        "Airport", "Astronaut", "Building", "City", "ComicsCharacter", "Food", "Monument", "SportsTeam", "University",
        "WrittenWork",
    )
)  # fmt: skip


@task("webnlg", version="1")
@dataclass(frozen=True)
class WebNlg(Triples):
    """A text that says some DBpedia triples. One text for each set, scored against all its references."""

    folder: ClassVar[str] = "webnlg"

    def rows(self, document: Any) -> Iterator[dict[str, str]]:
        for holder in document["entries"]:
            (entry,) = holder.values()
            source = linear([(t["subject"], t["property"], t["object"]) for t in entry["modifiedtripleset"]])
            part = "seen" if entry["category"] in SEEN else "unseen"
            for said in entry["lexicalisations"]:
                if said["comment"] == "good":
                    yield {"source": source, "target": said["lex"], "part": part}
