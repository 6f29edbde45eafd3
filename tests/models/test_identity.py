"""A model is what its files say, all of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from peftbench.models.identity import revision_of

FILES = (
    "config.json",
    "generation_config.json",
    "model.safetensors",
    "tokenizer.json",
    "tokenizer_config.json",
    "vocab.txt",
    "spiece.model",
    "chat_template.jinja",
    "adapter_config.json",
    "1_Pooling/config.json",
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "1_Pooling").mkdir()
    for name in FILES:
        (tmp_path / name).write_bytes(b"0" * (3 << 20 if name.endswith("safetensors") else 10))
    return tmp_path


def test_every_file_that_decides_what_is_built_is_in_it(folder: Path) -> None:
    before = {revision_of(folder)}
    for name in FILES:
        content = bytearray((folder / name).read_bytes())
        content[len(content) // 2] = ord("1")  # the middle alone, as after merging an adapter
        (folder / name).write_bytes(content)
        now = revision_of(folder)
        assert now not in before, name
        before.add(now)
    (folder / "vocab.txt").rename(folder / "words.txt")
    assert revision_of(folder) not in before


def test_what_decides_nothing_is_not(folder: Path) -> None:
    before = revision_of(folder)
    (folder / "README.md").write_text("a model")
    (folder / "training_args.bin").write_bytes(b"1")
    (folder / "checkpoint-5").mkdir()
    (folder / "checkpoint-5" / "config.json").write_text("{}")
    assert revision_of(folder) == before
