"""What a language model writes for some sources, each once, in batches of like lengths."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from ..objectives.decoding import Decoding
from . import batches


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
    from transformers import GenerationConfig

    config = model.config
    decoder_alone = not config.is_encoder_decoder
    end = tokenizer.eos_token_id if tokenizer.eos_token_id is not None else tokenizer.sep_token_id
    # A config of its own: the checkpoint's may ask for sampling.
    settings = GenerationConfig(
        max_new_tokens=decoding.max_new_tokens,
        num_beams=decoding.beams,
        length_penalty=decoding.length_penalty,
        no_repeat_ngram_size=decoding.no_repeat_ngram,
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
        with accelerator.autocast():
            made = model.generate(**batch, generation_config=settings)
        new = made[:, batch["input_ids"].shape[1] :] if decoder_alone else made
        said: Sequence[str] = tokenizer.batch_decode(new, skip_special_tokens=True)
        for item, text in zip(items, said, strict=True):
            texts[item] = " ".join(text.split())
    return texts


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
