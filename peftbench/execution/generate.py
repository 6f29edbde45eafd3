"""What a language model writes for some sources, each once, in batches of like lengths."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from transformers import (
    GenerationConfig,
    LogitsProcessor,
    LogitsProcessorList,
    NoRepeatNGramLogitsProcessor,
)

from ..objectives.decoding import Decoding
from . import batches
from .finite import check_logits


@torch.inference_mode()
def generate(
    model: Any,
    tokenizer: Any,
    sources: batches.Encoded,
    decoding: Decoding,
    accelerator: Any,
    batch_tokens: int,
) -> list[str]:
    """A text for each source, in their order.

    Args:
        sources: the tokens that stand before what is to be written, or an encoder-decoder's input.
        batch_tokens: of a batch with all its beams and new tokens, at the most.
    """
    config = model.config
    decoder_alone = not config.is_encoder_decoder
    end = tokenizer.eos_token_id if tokenizer.eos_token_id is not None else tokenizer.sep_token_id
    settings = GenerationConfig(
        max_new_tokens=decoding.max_new_tokens,
        num_beams=decoding.beams,
        length_penalty=decoding.length_penalty,
        do_sample=False,
        eos_token_id=end,
        pad_token_id=tokenizer.pad_token_id,
        decoder_start_token_id=getattr(config, "decoder_start_token_id", None),
    )
    longest = int(sources.lengths.max()) + decoding.max_new_tokens
    at_once = max(1, batch_tokens // (longest * decoding.beams))
    texts: list[str] = [""] * len(sources)
    pad = batches.padding(tokenizer)
    for items in batches.scoring_order(sources.lengths, at_once):
        batch = batches.collate(sources, items, pad, accelerator.device, left=decoder_alone)
        before = batch["input_ids"].shape[1] if decoder_alone else 1  # tokens that nobody wrote
        also = LogitsProcessorList([_Numbers()])
        if decoding.no_repeat_ngram:
            also.append(_OfWritten(NoRepeatNGramLogitsProcessor(decoding.no_repeat_ngram), before))
        with accelerator.autocast(), _alone(model):
            made = model.generate(**batch, generation_config=settings, logits_processor=also)
        new = made[:, before:]
        # As it was written: by default some tokenizers take the space before a comma away, which references keep.
        said: Sequence[str] = tokenizer.batch_decode(
            new, skip_special_tokens=True, clean_up_tokenization_spaces=False
        )
        for item, text in zip(items, said, strict=True):
            texts[item] = text.strip()
    return texts


@contextmanager
def _alone(model: Any) -> Iterator[None]:
    """For the block, nothing that the checkpoint asks for fills what the settings leave open."""
    before, model.generation_config = model.generation_config, GenerationConfig()
    try:
        yield
    finally:
        model.generation_config = before


class _OfWritten(LogitsProcessor):
    """Lets another processor see what was written alone: by itself the library's would forbid to copy from a decoder's source."""

    def __init__(self, processor: LogitsProcessor, before: int) -> None:
        self.processor, self.before = processor, before

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        allowed: torch.Tensor = self.processor(input_ids[:, self.before :], scores)
        return allowed


class _Numbers(LogitsProcessor):
    """Lets nothing be written from what is no number."""

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        check_logits(scores)
        return scores


def sources_of(split: batches.Encoded, rows: batches.IntArray) -> batches.Encoded:
    """The sources of some rows, without their targets."""
    chosen = split.some(rows)
    tokens = chosen.lists["input_ids"]
    if "source_tokens" in chosen.numbers:
        lengths = chosen.numbers["source_tokens"].astype(np.int64)
        starts = tokens.offsets[:-1]
        kept = np.concatenate([np.arange(s, s + n) for s, n in zip(starts, lengths, strict=True)])
        tokens = batches.Ragged(tokens.values[kept], np.concatenate([[0], np.cumsum(lengths)]))
    return batches.Encoded({"input_ids": tokens}, {}, chosen.texts)
