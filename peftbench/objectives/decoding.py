"""How a text is written."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Decoding:
    """How a text is written: greedily, or by the best of several beams."""

    beams: int = 1
    max_new_tokens: int = 64
    length_penalty: float = 1.0  # beams are ranked by log-likelihood / length^penalty
    no_repeat_ngram: int = 0  # n-grams of this length are written once at most; 0: all may repeat

    def __post_init__(self) -> None:
        if self.beams < 1 or self.max_new_tokens < 1 or self.no_repeat_ngram < 0:
            raise ValueError("beams and max_new_tokens must be 1 or more, no_repeat_ngram 0 or more")


GREEDY = Decoding()
