"""DART v1.1.1 (Nan et al. 2021): open-domain triples to a text, as in the LoRA paper's Table 13.

From `--data-dir DIR` with `dart/train.json` and the like, the published documents, packed or not
(`dart-v1.1.1-full-train.json` of the authors).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

from peftbench import task

from ._triples import Triples, linear


@task("dart", version="1")
@dataclass(frozen=True)
class Dart(Triples):
    """A text that says some triples of any domain. One text for each set, scored against all its references."""

    folder: ClassVar[str] = "dart"

    def rows(self, document: Any) -> Iterator[dict[str, str]]:
        for entry in document:
            source = linear(
                [(subject, relation.lower(), end) for subject, relation, end in entry["tripleset"]]
            )
            for said in entry["annotations"]:
                if said["text"].strip():
                    yield {"source": source, "target": said["text"]}
