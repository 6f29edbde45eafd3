"""What a language model writes for some sources, each once, in batches of like lengths."""

from __future__ import annotations

import gc
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from transformers import (
    GenerationConfig,
    LogitsProcessor,
    LogitsProcessorList,
    NoRepeatNGramLogitsProcessor,
)

from ..models.parted import inferring, is_shared
from ..objectives.decoding import Decoding
from . import batches
from .finite import check_logits
from .out_of_memory import is_out_of_memory
from .text_room import TextRoom


@dataclass(frozen=True)
class Written:
    """Texts, and in which batches they were written."""

    texts: list[str]
    batches: int
    largest_batch: int  # texts
    halved: int  # times that there was no memory for a batch

    @property
    def how(self) -> dict[str, int]:
        """All but the texts, for the record."""
        return {"batches": self.batches, "largest_batch": self.largest_batch, "halved": self.halved}


def joined(parts: Sequence[tuple[batches.IntArray, Written]]) -> Written:
    """Texts that were written apart, as one; each part with the places of its texts."""
    by_place = {
        place: text for places, its in parts for place, text in zip(places.tolist(), its.texts, strict=True)
    }
    return Written(
        [by_place[place] for place in range(len(by_place))],
        sum(its.batches for _, its in parts),
        max(its.largest_batch for _, its in parts),
        sum(its.halved for _, its in parts),
    )


@inferring
def generate(
    model: Any,
    tokenizer: Any,
    sources: batches.Encoded,
    decoding: Decoding,
    accelerator: Any,
    room: TextRoom,
    ends: Sequence[int] = (),
) -> Written:
    """A text for each source, in their order.

    Where there is no memory for a batch, it and those after it are written in halves.

    Args:
        sources: the tokens that stand before what is to be written, or an encoder-decoder's input.
        room: what a batch may hold.
        ends: tokens that end a text, beside the model's own.

    Raises:
        torch.OutOfMemoryError: there is no memory for a single text.
        Diverged: the model's outputs are no numbers.
    """
    order = np.argsort(-sources.lengths, kind="stable")  # longest first, as in `batches.scoring_order`
    texts: list[str] = [""] * len(sources)
    sizes: list[int] = []
    tokens, begun, halved = room.tokens, 0, 0
    while begun < len(order):
        longest = int(sources.lengths[order[0 if room.by_longest_of_all else begun]])
        each = room.of_a_text(longest, decoding)
        items = order[begun : begun + max(1, tokens // each)]
        try:
            said = _write(model, tokenizer, sources, items, decoding, accelerator, ends)
        except Exception as error:
            if len(items) == 1 or is_shared(model) or not is_out_of_memory(error):
                raise
            said = None  # not here: the error still holds what the batch took
        if said is None:
            gc.collect()
            if accelerator.device.type == "cuda":
                torch.cuda.empty_cache()
            tokens, halved = each * (len(items) // 2), halved + 1
            continue
        for item, text in zip(items, said, strict=True):
            texts[item] = text.strip()
        begun += len(items)
        sizes.append(len(items))
    return Written(texts, len(sizes), max(sizes, default=0), halved)


def _write(
    model: Any,
    tokenizer: Any,
    sources: batches.Encoded,
    items: batches.IntArray,
    decoding: Decoding,
    accelerator: Any,
    also_ends: Sequence[int],
) -> Sequence[str]:
    """The texts for some sources, in one batch."""
    config = model.config
    decoder_alone = not config.is_encoder_decoder
    ends = sorted({*ends_of(model, tokenizer), *also_ends})
    settings = GenerationConfig(
        max_new_tokens=decoding.max_new_tokens,
        num_beams=decoding.beams,
        length_penalty=decoding.length_penalty,
        do_sample=False,
        eos_token_id=ends,
        pad_token_id=tokenizer.pad_token_id,
        decoder_start_token_id=getattr(config, "decoder_start_token_id", None),
    )
    pad = batches.padding(tokenizer)
    batch = batches.collate(sources, items, pad, accelerator.device, left=decoder_alone)
    before = batch["input_ids"].shape[1] if decoder_alone else 1  # tokens that nobody wrote
    also = LogitsProcessorList([_Numbers()])
    if decoding.no_repeat_ngram:
        also.append(_OfWritten(NoRepeatNGramLogitsProcessor(decoding.no_repeat_ngram), before))
    with accelerator.autocast(), _alone(model):
        made = model.generate(
            **batch, generation_config=settings, logits_processor=also, synced_gpus=is_shared(model)
        )
    new = made[:, before:]
    # An end that the tokenizer does not call special would be read as a part of the text.
    new = new.masked_fill(torch.isin(new, torch.tensor(ends, device=new.device)), tokenizer.pad_token_id)
    # As it was written: by default some tokenizers take the space before a comma away, which references keep.
    said: Sequence[str] = tokenizer.batch_decode(
        new, skip_special_tokens=True, clean_up_tokenization_spaces=False
    )
    return said


def ends_of(model: Any, tokenizer: Any) -> list[int]:
    """The tokens that end a text: the tokenizer's own, and those that the checkpoint lists beside it (Llama 3 has three)."""
    own = tokenizer.eos_token_id if tokenizer.eos_token_id is not None else tokenizer.sep_token_id
    listed = model.generation_config.eos_token_id
    # A list that lacks the tokenizer's own is of another tokenizer.
    return sorted(listed) if isinstance(listed, list) and own in listed else [own]


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
