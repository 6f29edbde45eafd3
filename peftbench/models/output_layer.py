"""The output layer of a model that writes, a few places at a time: the logits of a whole batch never exist.

A pass ends before the output layer. Its hidden states are taken at the places that matter, and chunks of them go through the
output layer, as a method left it, and through what the model does to logits behind it. In training each chunk's gradients
are computed at once, so that nothing of the vocabulary's width lives until the backward pass.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from .parted import is_of_sharing, without_gradients

# Of a chunk: small beside a model with a large vocabulary, and enough places to fill a GPU (256 of a vocabulary of 128k).
CHUNK_BYTES = 512 * 2**20
BYTES_A_LOGIT = 16  # logits, their log-softmax and the gradients of both, in float32
PROOF_TOKENS = 4

TokenLosses = Callable[
    [Tensor, Tensor], Tensor
]  # of logits (tokens, vocabulary) and tokens (tokens,): (tokens,)


@dataclass(frozen=True)
class _Behind:
    """What some models do to every logit alike, by a setting that can be taken out for a pass."""

    of_config: bool  # else the model has it
    name: str
    without: Callable[[Any], Any]  # from its value to one that changes nothing
    apply: Callable[[Tensor, Any], Tensor]  # as the library does, so that it rounds as there


BEHIND = (
    _Behind(False, "final_logits_bias", lambda bias: bias.new_zeros(1), lambda logits, bias: logits + bias),
    _Behind(False, "logit_scale", lambda _: 1.0, lambda logits, scale: logits * scale),  # Cohere
    _Behind(True, "logits_scaling", lambda _: 1.0, lambda logits, scale: logits / scale),  # Granite
    _Behind(True, "final_logit_softcapping", lambda _: None, lambda logits, cap: torch.tanh(logits / cap) * cap),
)  # fmt: skip


@dataclass(frozen=True)
class Places:
    """Some places of a pass: what becomes their logits, and how."""

    states: Tensor  # (places, width)
    logits_of: Callable[[Tensor], Tensor]  # of some of the states, (places, vocabulary)
    at_once: int  # places of a chunk

    @torch.no_grad()
    def logits(self) -> Tensor:
        """Of all of them, (places, vocabulary)."""
        return self.logits_of(self.states)

    @torch.no_grad()
    def losses(self, tokens: Tensor, token_losses: TokenLosses) -> Tensor:
        """Of the token asked for at each place, (places,)."""
        chunks = zip(self.states.split(self.at_once), tokens.split(self.at_once), strict=True)
        return torch.cat([token_losses(self.logits_of(states), its) for states, its in chunks])

    def mean_loss(self, tokens: Tensor, token_losses: TokenLosses) -> Tensor:
        """The mean of the losses of the tokens asked for, (places,); its gradients are known before the backward pass."""
        losses: list[Tensor] = []
        of_states = torch.empty_like(self.states) if self.states.requires_grad else None
        of_others: dict[Tensor, Tensor] = {}  # what of the output layer trains
        for start in range(0, len(tokens), self.at_once):
            chosen = slice(start, start + self.at_once)
            chunk = self.states[chosen].detach().requires_grad_(self.states.requires_grad)
            with torch.enable_grad():
                loss = token_losses(self.logits_of(chunk), tokens[chosen]).sum() / len(tokens)
            losses.append(loss.detach())
            leaves = _leaves(loss)
            # Kept: what a method computes once for several passes may be part of it. A chunk's own goes with `loss`.
            with torch.autocast(loss.device.type, enabled=False):  # as a backward pass is
                gradients = torch.autograd.grad(loss, leaves, retain_graph=True) if leaves else ()
            for leaf, gradient in zip(leaves, gradients, strict=True):
                if leaf is chunk:
                    assert of_states is not None
                    of_states[chosen] = gradient
                elif leaf in of_others:
                    of_others[leaf] = of_others[leaf] + gradient  # not in place: two leaves may share one
                else:
                    of_others[leaf] = gradient
            del loss, gradients  # else the next chunk would stand beside it
        known = {**of_others, **({} if of_states is None else {self.states: of_states})}
        of_all: Tensor = _Known.apply(torch.stack(losses).sum(), tuple(known.values()), *known)  # type: ignore[no-untyped-call]
        return of_all


class _Known(torch.autograd.Function):
    """A number whose gradients are known."""

    @staticmethod
    def forward(ctx: Any, value: Tensor, gradients: tuple[Tensor, ...], *_: Tensor) -> Tensor:
        ctx.save_for_backward(*gradients)
        return value.clone()

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> Any:
        return None, None, *(upstream * gradient for gradient in ctx.saved_tensors)


def _leaves(loss: Tensor) -> list[Tensor]:
    """What a loss has gradients for: the tensors where its graph ends."""
    nodes, seen, leaves = [loss.grad_fn], set(), []
    while nodes:
        node = nodes.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if hasattr(node, "variable"):
            leaves.append(node.variable)
        nodes += [following for following, _ in node.next_functions]
    return leaves


@dataclass(frozen=True)
class OutputLayer:
    """How a model that writes comes to its logits."""

    # Logits of a place, where the output layer is computed apart from the pass; None: the pass gives the logits of all places.
    vocabulary: int | None = None

    def places(self, model: Any, inputs: dict[str, Tensor], index: Tensor) -> Places:
        """One pass, and the places of its outputs at `index` of (batch x length).

        A chunk is as large as the vocabulary says, whatever the method and the free memory are.
        """
        logits_of: Callable[[Tensor], Tensor] = _as_they_are
        if self.vocabulary is None:
            states = model(**inputs).logits
        else:
            with _ending_before_output(model) as logits_of:
                states = model(**inputs).logits
        width = self.vocabulary or states.shape[-1]
        at_once = max(1, CHUNK_BYTES // (BYTES_A_LOGIT * width))
        return Places(states.flatten(0, 1).index_select(0, index), logits_of, at_once)


WHOLE = OutputLayer()


def output_layer_of(model: Any) -> OutputLayer:
    """A model's, in evaluation mode: apart where that gives the very bits that a whole pass gives for a few tokens.

    A hook on the model may read its logits, so there they are what it expects; one on the gradient of the output layer's weights would
    run for each chunk and once more.
    """
    layer = model.get_output_embeddings()
    own = [hook for hook in model._forward_hooks.values() if not is_of_sharing(hook)]
    if layer is None or own or any(weight._backward_hooks for weight in layer.parameters()):
        return WHOLE
    index = torch.arange(PROOF_TOKENS, device=next(model.parameters()).device)
    inputs = {"input_ids": index[None] + 1}
    if model.config.is_encoder_decoder:
        inputs["decoder_input_ids"] = inputs["input_ids"]
    with without_gradients():
        try:
            whole = model(**inputs).logits[0]
            found = OutputLayer(whole.shape[-1])
            same = torch.equal(found.places(model, inputs, index).logits(), whole)
        except Exception:  # noqa: BLE001  whatever comes of a model that reads its output layer in another way
            return WHOLE
    return found if same else WHOLE


def _as_they_are(logits: Tensor) -> Tensor:
    return logits


@contextmanager
def _ending_before_output(model: Any) -> Iterator[Callable[[Tensor], Tensor]]:
    """For the block, a pass gives hidden states as its logits. Yields what makes logits of some of them, (places, width)."""
    layer = model.get_output_embeddings()
    there = [
        (step, holder, getattr(holder, step.name))
        for step in BEHIND
        for holder in [model.config if step.of_config else model]
        if getattr(holder, step.name, None) is not None
    ]

    def logits_of(states: Tensor) -> Tensor:
        logits = layer(states[None])
        for step, _, value in there:
            logits = step.apply(logits, value)
        return logits[0]  # type: ignore[no-any-return]

    model.set_output_embeddings(nn.Identity())
    try:
        for step, holder, value in there:
            setattr(holder, step.name, step.without(value))
        yield logits_of
    finally:
        model.set_output_embeddings(layer)
        for step, holder, value in there:
            setattr(holder, step.name, value)
