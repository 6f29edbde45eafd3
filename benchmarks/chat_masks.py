"""What is learned of a conversation by published chat templates, against the marks that TRL's maintainers set in them.

    python benchmarks/chat_masks.py          # needs TRL, whose templates these are

A tokenizer of bytes has the special tokens that each template writes, so no checkpoint is needed.
"""

from __future__ import annotations

import re
from importlib.resources import files
from itertools import groupby
from typing import Any

from peftbench.models.starters import byte_tokenizer
from peftbench.objectives.chat_template import Conversation, Unclear, render

SAID = (
    {"role": "user", "content": "Hi there"},
    {"role": "assistant", "content": "Hello.\n\nYou"},
    {"role": "user", "content": "What?"},
    {"role": "assistant", "content": "It is so."},
)
OWN_WORDS = (
    "</?(?:think|tool\\w*|function\\w*|parameter\\w*)>"  # that templates write and tokenizers know as text
)
ENDS = (
    "<|END_OF_TURN_TOKEN|>",
    "<|eot_id|>",
    "<|im_end|>",
    "<end_of_turn>",
    "<|end|>",
)  # that are a tokenizer's end


def main() -> None:
    home = files("trl") / "chat_templates"
    names = sorted(
        file.name.removesuffix(".jinja") for file in home.iterdir() if file.name.endswith(".jinja")
    )
    print("| template | learned, without its own marks | with TRL's marks |\n|---|---|---|")
    for name in (name for name in names if not name.endswith("_training")):
        template = (home / f"{name}.jinja").read_text(encoding="utf-8")
        marked = home / f"{name}_training.jinja"
        tokenizer = tokenizer_for(template)
        own = learned(tokenizer, template)
        theirs = learned(tokenizer, marked.read_text(encoding="utf-8")) if marked.is_file() else "no marks"
        print(
            f"| `{name}` | {own} | {'the same' if theirs == own and not own.startswith('refused') else theirs} |"
        )


def tokenizer_for(template: str) -> Any:
    """Bytes, and the special tokens of a template."""
    tokenizer = byte_tokenizer()
    special = {
        token for token in re.findall(r"<\|?[\w｜▁]+\|?>", template) if not re.fullmatch(OWN_WORDS, token)
    }
    tokenizer.add_special_tokens({"additional_special_tokens": sorted(special)})
    end = next((end for end in ENDS if end in special), "</s>")
    tokenizer.add_special_tokens({"bos_token": "<s>", "eos_token": end})
    return tokenizer


def learned(tokenizer: Any, template: str) -> str:
    """The learned passages, or why there are none."""
    try:
        found = render(tokenizer, template, Conversation(SAID))
    except Unclear as error:
        return f"refused: {' '.join(str(error).split())[:90]}".replace("|", "\\|")
    runs = groupby(zip(found.ids, found.spoken, strict=True), lambda one: one[1])
    texts = [
        tokenizer.decode([token for token, _ in its], clean_up_tokenization_spaces=False)
        for spoken, its in runs
        if spoken
    ]
    return ", ".join(f"`{text}`".replace("\n", "⏎").replace("|", "\\|") for text in texts)


if __name__ == "__main__":
    main()
