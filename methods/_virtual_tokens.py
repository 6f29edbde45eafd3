"""Trained vectors at places of their own among the embeddings of a sequence's tokens: [prefix; tokens; infix].

The prefix stands before a row's tokens and the infix right after its last real one (Hu et al. 2021, arXiv 2106.09685,
section 5.1), so that padding stays where it is. What comes after the stack of blocks gets the tokens' states alone. In a
causal model the last token's state is read at the last infix place: the order is prompt, infix, completion, and an infix
that the classifier or the next token does not see would do nothing. Where activations are replaced as well, a causal
model's infix stands before the last token instead: behind it, all but the last block's work at the place that is read
would be thrown away, and the infix's vectors before that block would reach nothing. Differences to the PEFT library:

- An encoder's first token ([CLS]) stays first and the prefix follows it, as in visual prompt tuning, because poolers read
  place 0. There the prompt comes before it, so that a pooler reads a virtual token.
- Virtual tokens have positions (and token type 0), as there; the real tokens' positions move accordingly.
- In an encoder-decoder they stand in the encoder's sequence alone; the decoder attends to them like to any token.

Everything happens in hooks on the stack (the module that holds word embedding and blocks) and its blocks. In a decoding
step the cache already holds the virtual tokens: only the mask and given positions then make room for them.
"""

from __future__ import annotations

import functools
import inspect
import os.path
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from peftbench import Adaptation, NotSupported, Site, layer_stream, sites
from peftbench.models.positions import positions_of


@dataclass(frozen=True)
class Layout:
    """Where what stands, for every row: T tokens and V virtual ones on T + V places."""

    slot: Tensor  # (batch, T + V): which virtual token, -1 where a token stands
    source: Tensor  # (batch, T + V): which token; any at a virtual place
    mask: Tensor | None  # (batch, T + V), or None where all tokens are real
    read: Tensor  # (batch, T): the place at which each token's state is read


def lay_out(
    shape: Sequence[int],
    mask: Tensor | None,
    device: torch.device,
    prefix: int,
    infix: int = 0,
    after: int = 0,
    before: int = 0,
    at_infix: bool = False,
) -> Layout:
    """The layout of a batch that is padded on either side.

    Args:
        shape: (batch, length).
        mask: (batch, length), 1 for real tokens.
        after: how many of a row's first tokens stay before its prefix.
        before: how many of its last real tokens stay behind its infix.
        at_infix: the last token's state is read at the last infix place.
    """
    batch, length = shape
    token = torch.arange(length, device=device)[None]
    place = torch.arange(length + prefix + infix, device=device)[None]
    first: int | Tensor = 0
    end: int | Tensor = length
    if mask is not None:
        real = mask.bool()
        first = (real.cumsum(1) == 0).sum(1, keepdim=True)
        end = ((token + 1) * real).amax(1, keepdim=True)
    start, end = first + after, end - before  # the tokens before which prefix and infix stand
    ahead, behind = place - start, place - end - prefix
    in_prefix = (ahead >= 0) & (ahead < prefix)
    in_infix = (behind >= 0) & (behind < infix)
    slot = torch.where(in_prefix, ahead, torch.where(in_infix, behind + prefix, -1)).expand(batch, -1)
    source = place - prefix * (ahead >= prefix).long() - infix * (behind >= infix).long()
    source = source.clamp(0, length - 1).expand(batch, -1)
    read = token + prefix * (token >= start).long() + infix * (token >= end - int(at_infix)).long()
    wide = None if mask is None else mask.gather(1, source).masked_fill(slot >= 0, 1)
    return Layout(slot, source, wide, read.expand(batch, -1))


def put(slot: Tensor, vectors: Tensor, hidden: Tensor) -> Tensor:
    """`hidden`, (batch, places, width), with `vectors`, (virtual tokens, width), at the virtual places."""
    # The lookup in float32, so that its gradient over a batch is summed in float32.
    virtual = functional.embedding(slot.clamp(min=0), vectors).to(hidden.dtype)
    return torch.where((slot >= 0)[..., None], virtual, hidden)


def stack_of(model: nn.Module) -> tuple[nn.Module, Site, list[Site]]:
    """The stack that virtual tokens enter, the word embedding, and the stack's blocks in their order.

    Raises:
        NotSupported: the model does not read tokens.
    """
    embedding = sites(model, "embedding")[0]
    if not isinstance(embedding.module, nn.Embedding):
        kind = model.config.model_type  # type: ignore[union-attr]
        raise NotSupported(f"{kind} models do not take virtual tokens: they have no word embedding")
    blocks = sites(model, "block")
    whole: Any = model
    if getattr(whole.config, "is_encoder_decoder", False):
        stack: nn.Module = whole.base_model.get_encoder()
    else:
        names = [site.name.split(".") for site in (embedding, *blocks)]
        stack = whole.get_submodule(".".join(os.path.commonprefix(names)))
    inside = {id(module) for module in stack.modules()}
    return stack, embedding, [site for site in blocks if id(site.module) in inside]


def normal(count: int, width: int, std: float | None, embedding: Site, name: str) -> Tensor:
    """Gaussian vectors, (count, width), with the spread of the word embeddings where none is given."""
    weight: Tensor = embedding.module.weight  # type: ignore[assignment]
    vectors = torch.empty(count, width, device=weight.device)
    if not weight.is_meta:
        spread = float(weight.detach().float().std()) if std is None else std
        with layer_stream(name):
            vectors.copy_(torch.randn(count, width) * spread)
    return vectors


class VirtualTokens(nn.Module):
    """What trains: vectors that enter as embeddings and, for methods that replace activations, a set for each later block."""

    def __init__(self, sets: Sequence[Tensor]) -> None:
        super().__init__()
        self.vectors = nn.ParameterList(nn.Parameter(vectors) for vectors in sets)


def add_virtual_tokens(model: nn.Module, prefix: int, infix: int, sets: Sequence[Tensor]) -> Adaptation:
    """Let virtual tokens into a model.

    Args:
        sets: (prefix + infix, width) each: the embeddings, and after them what replaces the activations at the virtual
            places before the second block, the third, and so on, if anything does.
    """
    stack, embedding, blocks = stack_of(model)
    tokens = VirtualTokens(sets).train(model.training)
    model.add_module("virtual_tokens", tokens)
    switch = Hooks(model, stack, embedding.module, blocks, tokens, prefix, infix).switch
    switch(True)
    params = {f"virtual_tokens.{name}": p for name, p in tokens.named_parameters()}
    return Adaptation(model, params, toggle=switch)


class Hooks:
    """What happens before and after the stack, and before its blocks."""

    def __init__(
        self,
        model: Any,
        stack: nn.Module,
        embedding: nn.Module,
        blocks: list[Site],
        tokens: VirtualTokens,
        prefix: int,
        infix: int,
    ) -> None:
        self.stack, self.embedding, self.blocks, self.tokens = stack, embedding, blocks, tokens
        self.prefix, self.infix, self.count = prefix, infix, prefix + infix
        self.kind = model.config.model_type
        self.decoder: nn.Module | None = None
        if getattr(model.config, "is_encoder_decoder", False):
            self.decoder = model.base_model.get_decoder()
        self.causal = any(getattr(module, "is_causal", False) for module in stack.modules())
        self.after = 0 if self.causal or self.decoder is not None else 1
        self.before = int(self.causal and len(tokens.vectors) > 1)
        self.at_infix = self.causal and not self.before
        generates = getattr(model, "get_output_embeddings", lambda: None)() is not None
        self.splits_texts = self.causal and generates and infix > 0
        self.positions = positions_of(stack)
        self.names = list(inspect.signature(stack.forward).parameters)
        self.layout: Layout | None = None  # of the pass that runs
        self.handles: list[Any] = []

    def switch(self, on: bool) -> None:
        while self.handles:
            self.handles.pop().remove()
        if not on:
            return
        self.handles.append(self.stack.register_forward_pre_hook(self.enter, with_kwargs=True))
        for layer, block in enumerate(self.blocks[: len(self.tokens.vectors)]):
            if layer:
                replace = functools.partial(self.replace, layer)
                self.handles.append(block.module.register_forward_pre_hook(replace))
        if self.decoder is None:
            self.handles.append(self.stack.register_forward_hook(self.leave))
        else:
            self.handles.append(self.decoder.register_forward_pre_hook(self.attend, with_kwargs=True))

    def enter(self, _: nn.Module, args: tuple[Any, ...], options: dict[str, Any]) -> Any:
        """Embeddings of tokens and virtual tokens in place of token ids (batch, length), and what goes with them."""
        given = {**dict(zip(self.names, args, strict=False)), **options}
        ids, mask, cache = (given.get(name) for name in ("input_ids", "attention_mask", "past_key_values"))
        if ids is None:
            raise NotSupported("virtual tokens stand among tokens: call the model with input_ids")
        seen = 0 if cache is None else cache.get_seq_length()
        places = seen + ids.shape[1] + (0 if seen else self.count)
        if self.positions is not None and places > self.positions:
            raise NotSupported(
                f"{places - self.count} tokens and {self.count} virtual ones are more than the {self.positions} "
                f"positions of this {self.kind} model; ask for fewer virtual tokens or shorter texts"
            )
        if seen:
            self.layout = None
            given["attention_mask"] = self.widened(mask)
            if given.get("position_ids") is not None:
                given["position_ids"] = given["position_ids"] + self.count
            return (), given
        if self.splits_texts and self.stack.training:
            raise NotSupported(
                "an infix stands between prompt and completion, and a training pass over whole texts does not say "
                "where that is: train language models with infix=0"
            )
        layout = lay_out(
            ids.shape, mask, ids.device, self.prefix, self.infix, self.after, self.before, self.at_infix
        )
        self.layout = layout
        embedded = self.embedding(ids.gather(1, layout.source))
        given["inputs_embeds"] = put(layout.slot, self.tokens.vectors[0], embedded)
        given["input_ids"], given["attention_mask"] = None, layout.mask
        if given.get("token_type_ids") is not None:
            types = given["token_type_ids"].expand(ids.shape).gather(1, layout.source)
            given["token_type_ids"] = types.masked_fill(layout.slot >= 0, 0)
        if given.get("position_ids") is not None:  # they count real tokens, which now are more
            given["position_ids"] = None if mask is None else (layout.mask.cumsum(1) - 1).clamp(min=0)  # type: ignore[union-attr]
        return (), given

    def replace(self, layer: int, _: nn.Module, args: tuple[Any, ...]) -> Any:
        """Before a later block: its own vectors at the virtual places of its input (batch, places, width)."""
        if self.layout is None:
            return None
        return (put(self.layout.slot, self.tokens.vectors[layer], args[0]), *args[1:])

    def leave(self, _: nn.Module, args: tuple[Any, ...], out: Any) -> Any:
        """The states of the tokens, (batch, length, width), out of those of all places."""
        if self.layout is None:
            return None
        read = self.layout.read[..., None]
        out.last_hidden_state = _gather(out.last_hidden_state, read)
        if getattr(out, "hidden_states", None) is not None:
            out.hidden_states = tuple(_gather(hidden, read) for hidden in out.hidden_states)
        return out

    def attend(self, _: nn.Module, args: tuple[Any, ...], options: dict[str, Any]) -> Any:
        """A decoder's cross-attention sees the encoder's virtual tokens."""
        return args, {
            **options,
            "encoder_attention_mask": self.widened(options.get("encoder_attention_mask")),
        }

    def widened(self, mask: Tensor | None) -> Tensor | None:
        """A mask with room for the virtual tokens. That the infix has its room beside the prefix's is all one to a mask."""
        return None if mask is None else lay_out(mask.shape, mask, mask.device, self.count).mask


def _gather(hidden: Tensor, read: Tensor) -> Tensor:
    return hidden.gather(1, read.expand(-1, -1, hidden.shape[-1]))
