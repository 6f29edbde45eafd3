"""A model's tokenizer, held against the model before anything is trained on what it says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import transformers
from torch import nn

from ..errors import ModelError, NotSupported
from .broken import unloadable
from .source import Source
from .starters import byte_tokenizer

# Files that hold a vocabulary, besides those that a tokenizer's class names.
VOCABULARIES = ("tokenizer.json", "vocab.txt", "vocab.json", "tekken.json", "*.model", "*.spm", "*.tiktoken")


def tokenizer_of(source: Source) -> Any:
    """The tokenizer from a model's files; a config alone serves for costs, and any tokens for them.

    Raises:
        ModelError: the files hold none. The library would build one that knows no word.
    """
    if not source.weights:
        return byte_tokenizer()
    folder = Path(source.location)
    present = any(any(folder.glob(pattern)) for pattern in VOCABULARIES)
    try:
        tokenizer: Any = transformers.AutoTokenizer.from_pretrained(
            source.location, trust_remote_code=False, local_files_only=True
        )
    except Exception as error:  # whatever a broken file makes the library raise
        raise (
            unloadable(source, error, "tokenizer.json or tokenizer_config.json: ")
            if present
            else _without(source)
        ) from error
    named = set(type(tokenizer).vocab_files_names.values())
    present = present or not named or any((folder / file).is_file() for file in named)
    if not present or len(tokenizer) <= len(set(tokenizer.all_special_ids)):
        raise _without(source)
    return tokenizer


def _without(source: Source) -> ModelError:
    return ModelError(
        f"model {source.name!r} has no tokenizer files with a vocabulary (tokenizer.json, vocab.txt or the like); save its tokenizer "
        "beside it: tokenizer.save_pretrained(FOLDER)"
    )


def fit_together(model: Any, tokenizer: Any, name: str) -> list[str]:
    """Give both one padding token, on the right; a head that looks for the last token finds it by that.

    Args:
        name: of the model, for messages.

    Returns:
        What a reader should know.

    Raises:
        ModelError: the tokenizer has tokens that the model has no embedding for.
        NotSupported: it has neither a padding nor an end token.
    """
    notices = []
    if tokenizer.pad_token_id is None:
        if tokenizer.eos_token_id is None:
            raise NotSupported("the tokenizer has neither a padding nor an end token")
        tokenizer.pad_token = tokenizer.eos_token
        notices.append(
            f"its tokenizer has no padding token, so its end token {tokenizer.eos_token!r} is used for padding"
        )
    tokenizer.padding_side = "right"
    embedding = model.base_model.get_input_embeddings()
    # A token that was added and never stands in a text does no harm; the library adds some by itself.
    needed = max(tokenizer.vocab_size, tokenizer.pad_token_id + 1)
    if isinstance(embedding, nn.Embedding) and needed > embedding.num_embeddings:
        raise ModelError(
            f"model {name!r} has {embedding.num_embeddings:,} embeddings and its tokenizer {needed:,} tokens: the two do not "
            "belong together; save the model's own tokenizer beside it"
        )
    config = model.config.get_text_config()
    said = config.pad_token_id
    if said is not None and said != tokenizer.pad_token_id:
        notices.append(
            f"config.json calls token {said} its padding, the tokenizer {tokenizer.pad_token_id}: the tokenizer's is taken"
        )
    for one in (config, model.config):
        one.pad_token_id = tokenizer.pad_token_id
    end = tokenizer.eos_token_id
    if model.config.is_encoder_decoder and end is not None and config.eos_token_id != end:
        # A classifier of this kind looks for the end token by the config's number.
        notices.append(
            f"config.json calls token {config.eos_token_id} its end, the tokenizer {end}: the tokenizer's is taken"
        )
        model.config.eos_token_id = end
    return notices
