"""How many texts are written at once: as many tokens, with all beams and all that is to be written, as there is room for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from ..models.precision import LINEAR
from ..objectives.decoding import Decoding

FREE_SHARE = 0.5  # of a GPU's free memory: a cache that grows is copied layer by layer, and leaves holes
LOGITS = 4  # copies of a text's logits in float32, beside what they were computed in: scores, sorted, normalised, processed


@dataclass(frozen=True)
class TextRoom:
    """What a batch of texts may hold."""

    tokens: int  # of all its sources and what is to be written, times beams
    text_tokens: int = 0  # what a beam costs beside its tokens, in tokens
    by_longest_of_all: bool = False  # every batch has as many texts as one with the longest source would

    def of_a_text(self, source_tokens: int, decoding: Decoding) -> int:
        """What a text takes of `tokens`, in a batch whose longest source has so many."""
        return (source_tokens + decoding.max_new_tokens + self.text_tokens) * decoding.beams


def text_room(model: nn.Module, device: torch.device, dtype: torch.dtype, cpu_tokens: int) -> TextRoom:
    """The room that there is now.

    On a CPU it is a constant, so that the same texts are always written together: in another batch the last bit of a logit may
    differ, and with it, where two tokens tie, a text.

    Args:
        dtype: in which keys and values are computed.
        cpu_tokens: of a batch on a CPU.
    """
    if device.type != "cuda":
        return TextRoom(cpu_tokens, by_longest_of_all=True)
    config: Any = model.config.get_text_config(decoder=True)  # type: ignore[union-attr,operator]
    if (
        getattr(config, "num_attention_heads", None) is None
    ):  # no cache of keys and values: what runs out is halved
        return TextRoom(cpu_tokens)
    unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return room_in(int(FREE_SHARE * (torch.cuda.mem_get_info(device)[0] + unused)), model, dtype)


def room_in(free_bytes: int, model: nn.Module, dtype: torch.dtype) -> TextRoom:
    """The room in so many bytes.

    A token takes its keys and values in every layer and, while its source is read, at most what the linear layers of one block
    give at once. A text takes its logits. Attention that holds its scores (`eager`) takes more than is counted.
    """
    config: Any = model.config.get_text_config(decoder=True)  # type: ignore[union-attr,operator]
    heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    head_size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    layers = config.num_hidden_layers
    cached = 2 * layers * heads * head_size
    output: Any = model.get_output_embeddings()  # type: ignore[operator]
    linear = [m for m in model.modules() if isinstance(m, LINEAR) and m is not output]
    computed = sum(m.nf if not isinstance(m, nn.Linear) else m.out_features for m in linear) / layers
    token_bytes = (cached + computed) * dtype.itemsize
    text_bytes = config.vocab_size * (dtype.itemsize + LOGITS * torch.float32.itemsize)
    return TextRoom(int(free_bytes / token_bytes), round(text_bytes / token_bytes))
