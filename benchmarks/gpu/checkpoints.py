"""Models and data of a machine without a network: Llama shapes with random weights, and texts of random words.

Random weights give honest times and memory, and no quality.
"""

from __future__ import annotations

import json
import random
from dataclasses import dataclass
from pathlib import Path

import torch

WORDS = 1_000  # of the texts; each is one token


@dataclass(frozen=True)
class Shape:
    """A Llama's sizes."""

    width: int
    ffn: int
    layers: int
    heads: int
    key_value_heads: int
    vocabulary: int
    tied: bool  # input and output embeddings


SHAPES = {
    "tiny": Shape(64, 128, 2, 4, 2, 1_024, True),
    "1b": Shape(2048, 8192, 16, 32, 8, 128_256, True),  # Llama 3.2 1B
    "8b": Shape(4096, 14_336, 32, 32, 8, 128_256, False),  # Llama 3.1 8B
}


def checkpoint(size: str, work: Path) -> Path:
    """The folder of a checkpoint of that size in bfloat16, drawn on the GPU where there is one; made once."""
    import transformers
    from tokenizers import Tokenizer, models, pre_tokenizers

    folder, shape = work / f"llama-{size}", SHAPES[size]
    if (folder / "made").exists():
        return folder
    config = transformers.LlamaConfig(
        hidden_size=shape.width,
        intermediate_size=shape.ffn,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.key_value_heads,
        vocab_size=shape.vocabulary,
        tie_word_embeddings=shape.tied,
        max_position_embeddings=8_192,
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=3,
    )
    torch.manual_seed(0)
    with torch.device(device()):
        torch.set_default_dtype(torch.bfloat16)
        model = transformers.LlamaForCausalLM(config)
        torch.set_default_dtype(torch.float32)
    model.save_pretrained(folder)
    known = {"<unk>": 0, "<s>": 1, "</s>": 2, "<pad>": 3} | {f"w{i}": i for i in range(4, WORDS)}
    tokenizer = Tokenizer(models.WordLevel(known, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", pad_token="<pad>", unk_token="<unk>"
    ).save_pretrained(folder)
    (folder / "made").touch()
    return folder


def texts(length: int, items: int, new_tokens: int, work: Path, uneven: bool = False) -> str:
    """A task, as a SPEC, whose items have `length` tokens, the second half of them to be written.

    Args:
        uneven: from an eighth of that to all of it.
    """
    file = work / f"texts-{length}-{items}{'-uneven' * uneven}.jsonl"
    if not file.exists():
        draw, most = random.Random(0), length // 2 - 1  # each half has an end of its own
        with file.open("w") as sink:
            for _ in range(items):
                words = draw.randint(most // 8, most) if uneven else most
                halves = [" ".join(f"w{draw.randrange(4, WORDS)}" for _ in range(words)) for _ in "qa"]
                sink.write(json.dumps({"q": halves[0], "a": halves[1]}) + "\n")
    return f"jsonl:path={file}:prompt=q:completion=a:max_new_tokens={new_tokens}"


def device() -> torch.device:
    """Where all of it runs."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")
