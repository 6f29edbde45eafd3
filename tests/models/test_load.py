"""Models as they are loaded: float32, padded as they were trained."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers

from peftbench import Classification
from peftbench.errors import ModelError, NotSupported, PeftbenchError
from peftbench.execution import batches
from peftbench.models.load import load_model
from peftbench.models.resolve import resolve_model
from peftbench.models.starters import byte_tokenizer
from peftbench.objectives.completion import Completion


def test_weights_in_bfloat16_on_disk_become_float32(tmp_path: Path, checkpoint: Callable[[str], str]) -> None:
    folder = tmp_path / "half"
    model = transformers.AutoModelForCausalLM.from_pretrained(checkpoint("gpt2"), dtype=torch.bfloat16)
    model.save_pretrained(folder)
    byte_tokenizer().save_pretrained(folder)
    loaded = load_model(resolve_model(str(folder)), None, 0)
    assert {p.dtype for p in loaded.model.parameters()} == {torch.float32}
    tied: Any = loaded.model
    assert tied.get_input_embeddings().weight is tied.get_output_embeddings().weight


@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_a_decoder_without_a_padding_token_classifies_a_padded_row_as_it_does_alone(
    family: str, tmp_path: Path, checkpoint: Callable[[str], str]
) -> None:
    tokenizer = byte_tokenizer()
    tokenizer.pad_token, tokenizer.eos_token = None, "[SEP]"
    model = transformers.AutoModelForCausalLM.from_pretrained(checkpoint(family))
    model.config.pad_token_id = None
    model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    objective = Classification(("a", "b"))
    loaded = load_model(resolve_model(str(tmp_path)), objective, 0)
    assert loaded.tokenizer.pad_token == "[SEP]" and loaded.tokenizer.padding_side == "right"
    encoded = objective.encode(loaded.tokenizer, {"text": ["short", "a longer text"], "label": [0, 1]}, 32)
    lists = encoded["input_ids"]
    ragged = batches.Ragged(np.concatenate(lists), np.cumsum([0, *map(len, lists)]))
    split = batches.Encoded({"input_ids": ragged}, {"labels": np.array([0, 1])})
    both, alone = (
        batches.collate(split, np.array(items), batches.padding(loaded.tokenizer), torch.device("cpu"))
        for items in ([0, 1], [0])
    )
    with torch.no_grad():
        padded, plain = (loaded.model(**batches.inputs_of(batch)).logits[0] for batch in (both, alone))
    torch.testing.assert_close(padded, plain, atol=1e-5, rtol=1e-5)


def folder_of(model: Any, folder: Path, tokenizer: bool = True) -> Path:
    model.save_pretrained(folder)
    if tokenizer:
        byte_tokenizer().save_pretrained(folder)
    return folder


def classifier(labels: int, checkpoint: Callable[[str], str]) -> Any:
    kind = transformers.AutoModelForSequenceClassification
    return kind.from_pretrained(checkpoint("bert"), num_labels=labels)


TWO = Classification(("a", "b"))


@pytest.mark.parametrize("labels", [2, 3])
def test_a_checkpoints_own_head_is_left_out_and_that_is_said(
    labels: int, tmp_path: Path, checkpoint: Callable[[str], str]
) -> None:
    own = classifier(labels, checkpoint)
    folder = folder_of(own, tmp_path / "own")
    loaded = load_model(resolve_model(str(folder)), TWO, 0)
    assert {name: p.shape[0] for name, p in loaded.head.items()} == {
        "classifier.weight": 2,
        "classifier.bias": 2,
    }
    assert not torch.equal(loaded.head["classifier.weight"], own.classifier.weight[:2])
    assert "own head" in loaded.notices[0] and "left out" in loaded.notices[0]
    torch.testing.assert_close(
        loaded.model.get_submodule("bert.pooler.dense").weight, own.bert.pooler.dense.weight
    )


def test_a_classifier_that_reads_its_padding_is_refused(tmp_path: Path) -> None:
    """XLNet's summary is the state of the last place, which is padding where a text is the shorter one."""
    config = transformers.XLNetConfig(
        vocab_size=300, d_model=32, n_layer=1, n_head=4, d_inner=32, pad_token_id=0
    )
    folder = folder_of(transformers.XLNetModel(config), tmp_path)
    with pytest.raises(NotSupported, match="by the last of all positions, which are padded on the right"):
        load_model(resolve_model(str(folder)), TWO, 0)


def test_the_layers_of_pretraining_below_a_new_head_are_kept(tmp_path: Path) -> None:
    config = transformers.ModernBertConfig(
        vocab_size=300, hidden_size=32, intermediate_size=32, num_hidden_layers=2, num_attention_heads=4,
        pad_token_id=0, bos_token_id=2, eos_token_id=3, cls_token_id=2, sep_token_id=3,
    )  # fmt: skip
    pretrained = transformers.ModernBertForMaskedLM(config)
    loaded = load_model(resolve_model(str(folder_of(pretrained, tmp_path))), TWO, 0)
    assert set(loaded.head) == {"classifier.weight", "classifier.bias"} and not loaded.notices
    torch.testing.assert_close(loaded.model.get_submodule("head.dense").weight, pretrained.head.dense.weight)


def test_weights_that_config_and_files_do_not_share_are_refused(
    tmp_path: Path, checkpoint: Callable[[str], str]
) -> None:
    model = transformers.AutoModelForCausalLM.from_pretrained(checkpoint("llama"))
    lacking = dict(model.state_dict())
    del lacking["model.layers.1.mlp.up_proj.weight"]
    model.save_pretrained(tmp_path / "lacking", state_dict=lacking)
    byte_tokenizer().save_pretrained(tmp_path / "lacking")
    with pytest.raises(ModelError, match=r"weights lack model.layers.1.mlp.up_proj.weight"):
        load_model(resolve_model(str(tmp_path / "lacking")), Completion(), 0)
    other = folder_of(model, tmp_path / "other")
    config = other / "config.json"
    config.write_text(config.read_text().replace('"intermediate_size": 64', '"intermediate_size": 48'))
    with pytest.raises(ModelError, match=r"is \(.*64.*\) in its weights and \(.*48.*\) by its config"):
        load_model(resolve_model(str(other)), Completion(), 0)
    config.write_text(
        config.read_text()
        .replace('"intermediate_size": 48', '"intermediate_size": 64')
        .replace('"num_hidden_layers": 2', '"num_hidden_layers": 1')
    )
    (notice,) = load_model(resolve_model(str(other)), Completion(), 0).notices
    assert "the weights have model.layers.1." in notice and "left out" in notice


@pytest.mark.filterwarnings("ignore::FutureWarning")  # of peft, which uses an older name
def test_an_adapter_beside_the_weights_is_left_out(tmp_path: Path, checkpoint: Callable[[str], str]) -> None:
    import peft

    plain = transformers.AutoModelForCausalLM.from_pretrained(checkpoint("llama"))
    folder = folder_of(plain, tmp_path)
    before = resolve_model(str(folder)).revision
    adapted = peft.get_peft_model(plain, peft.LoraConfig(init_lora_weights=False, target_modules=["q_proj"]))
    adapted.save_pretrained(str(folder))
    source = resolve_model(str(folder))
    assert source.revision != before
    loaded = load_model(source, TWO, 0)
    assert list(loaded.head) == ["score.weight"] and "adapter in its folder" in loaded.notices[0]
    assert not any("lora" in name for name, _ in loaded.model.named_parameters())
    (folder / "model.safetensors").unlink()
    with pytest.raises(ModelError, match="is an adapter without its base; give the base as --model"):
        resolve_model(str(folder))


@pytest.mark.parametrize("said", [0, 5, -1])
def test_the_last_real_token_is_read_whatever_config_calls_padding(
    said: int, tmp_path: Path, checkpoint: Callable[[str], str]
) -> None:
    model = transformers.AutoModelForCausalLM.from_pretrained(checkpoint("llama"))
    model.config.pad_token_id = said
    loaded = load_model(resolve_model(str(folder_of(model, tmp_path))), TWO, 0)
    assert bool(loaded.notices) == (said != 0)
    row = torch.tensor([[9, 8, 5, 7, 5]])  # ends in what one of the configs calls padding
    padded = torch.nn.functional.pad(row, (0, 3))
    with torch.no_grad():
        alone = loaded.model(row, torch.ones_like(row)).logits
        filled = loaded.model(padded, (padded != 0).long()).logits
        states = loaded.model.get_submodule("model")(row).last_hidden_state
    torch.testing.assert_close(alone, states[:, -1] @ loaded.head["score.weight"].T)
    torch.testing.assert_close(filled, alone, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("family", ["bert", "roberta", "gpt2"])
def test_a_model_without_a_tokenizer_is_refused(
    family: str, tmp_path: Path, checkpoint: Callable[[str], str]
) -> None:
    model = transformers.AutoModel.from_pretrained(checkpoint(family))
    source = resolve_model(str(folder_of(model, tmp_path, tokenizer=False)))
    with pytest.raises(ModelError, match="no tokenizer files"):
        load_model(source, TWO, 0, "meta")
    (tmp_path / "tokenizer_config.json").write_text('{"model_max_length": 512}')
    with pytest.raises(ModelError, match="no tokenizer files"):
        load_model(source, TWO, 0, "meta")


def test_a_tokenizer_of_another_model_is_refused(tmp_path: Path) -> None:
    sizes: dict[str, Any] = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1}
    model = transformers.BertModel(transformers.BertConfig(vocab_size=100, intermediate_size=8, **sizes))
    with pytest.raises(ModelError, match="100 embeddings and its tokenizer 261 tokens"):
        load_model(resolve_model(str(folder_of(model, tmp_path))), TWO, 0, "meta")


def broken(folder: Path, how: str) -> None:
    weights, config = folder / "model.safetensors", folder / "config.json"
    if how == "cut":
        weights.write_bytes(weights.read_bytes()[:-100])
    elif how == "empty":
        weights.write_bytes(b"")
    elif how == "git-lfs":
        weights.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:abc\nsize 123\n")
    elif how == "bad JSON":
        config.write_text(config.read_text()[:-20])
    elif how == "a list":
        config.write_text("[]")
    elif how == "other types":
        config.write_text(config.read_text().replace('"hidden_size": 32', '"hidden_size": "wide"'))
    elif how == "of images":
        config.write_text(config.read_text().replace("LlamaForCausalLM", "Gemma3ForConditionalGeneration"))
    elif how == "without its output layer":
        config.write_text(config.read_text().replace("LlamaForCausalLM", "LlamaModel"))
    elif how == "no architectures":
        config.write_text(config.read_text().replace("architectures", "architects"))
    elif how == "tokenizer":
        (folder / "tokenizer.json").write_text("{")
    elif how == "other tokenizer":
        (folder / "tokenizer.json").write_text("[]")
    elif how == "vocabulary":
        (folder / "tokenizer.json").write_text("version https://git-lfs.github.com/spec/v1\n")
    elif how == "code":
        text = config.read_text().replace('"model_type": "llama"', '"model_type": "mine"')
        config.write_text(text.replace("{", '{"auto_map": {"AutoConfig": "configuration_mine.Mine"},', 1))
    elif how == "pytorch":
        weights.rename(folder / "pytorch_model.bin")


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("cut", "model.safetensors can't be read as safetensors"),
        ("empty", "model.safetensors can't be read as safetensors"),
        ("git-lfs", "model.safetensors is a git-lfs pointer"),
        ("bad JSON", "config.json is no JSON"),
        ("a list", "config.json is no JSON object"),
        ("other types", "does not load: .*hidden_size"),
        ("no architectures", "its config.json has no architectures"),
        ("of images", "says Gemma3ForConditionalGeneration, which takes images or sound beside text"),
        ("without its output layer", "says LlamaModel, a decoder without .* such as LlamaForCausalLM"),
        ("tokenizer", "tokenizer.json can't be read"),
        ("other tokenizer", "does not load: tokenizer.json or tokenizer_config.json: "),
        ("vocabulary", "tokenizer.json is a git-lfs pointer"),
        ("code", "needs code of its own, which is never run"),
        ("pytorch", "has pytorch_model.bin alone, .* save it again as safetensors"),
    ],
)
def test_broken_files_are_named_in_one_line(
    how: str, said: str, tmp_path: Path, checkpoint: Callable[[str], str]
) -> None:
    folder = tmp_path / "broken"
    shutil.copytree(checkpoint("llama"), folder)
    broken(folder, how)
    with pytest.raises(PeftbenchError, match=said) as caught:
        load_model(resolve_model(str(folder)), Completion(), 0, "meta")
    assert str(folder) in str(caught.value) and "\n" not in str(caught.value)
    assert "trust_remote_code" not in str(caught.value)


@pytest.mark.parametrize("name", ["x" * 400, "~nobody-of-this-name/model", "/no/such/model"])
def test_names_that_lead_nowhere_are_one_line(name: str) -> None:
    with pytest.raises(ModelError):
        resolve_model(name)


def test_the_ends_of_items_keep_what_a_head_reads() -> None:
    ragged = batches.Ragged(np.array([5, 6, 7, 8, 9, 10]), np.array([0, 2, 3, 6]))
    split = batches.Encoded({"input_ids": ragged, "labels": ragged}, {"number": np.array([1, 2, 3])})
    ends = split.ends(2)
    for rows in ends.lists.values():
        assert [list(rows.values[a:b]) for a, b in zip(rows.offsets, rows.offsets[1:])] == [[5, 6], [7], [9, 10]]  # fmt: skip  # noqa: B905
    assert list(ends.numbers["number"]) == [1, 2, 3] and len(ends) == 3


@pytest.mark.parametrize("made_for", ["MarianMTModel", "BartModel"])
def test_an_encoder_decoder_of_another_name_writes(made_for: str, tmp_path: Path) -> None:
    """Marian's class has a name of its own; BART's checkpoints on the hub name the model below an output layer that is its embedding."""
    tokenizer, kind = byte_tokenizer(), made_for[: -len("MTModel" if "MT" in made_for else "Model")]
    sizes = {f"{side}_{what}": n for side in ("encoder", "decoder") for what, n in (("layers", 1), ("ffn_dim", 32), ("attention_heads", 4))}  # fmt: skip
    config = getattr(transformers, f"{kind}Config")(
        vocab_size=len(tokenizer), d_model=32, pad_token_id=0, eos_token_id=3, decoder_start_token_id=0, forced_eos_token_id=3,
        max_position_embeddings=64, **sizes,
    )  # fmt: skip
    getattr(transformers, made_for)(config).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    loaded = load_model(resolve_model(str(tmp_path)), Completion(), 0)
    assert (
        type(loaded.model).__name__
        == {"Marian": "MarianMTModel", "Bart": "BartForConditionalGeneration"}[kind]
    )
    assert not loaded.head
