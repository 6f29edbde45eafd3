"""Tiny models of several families, saved as real checkpoints: the tests take the real paths, without a network."""

from __future__ import annotations

import functools
import gc
import os

from .support import hub as small_hub

# Read when the hub's client is imported.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_ENDPOINT"] = small_hub.ENDPOINT
os.environ.setdefault("OMP_NUM_THREADS", "1")  # of runs' own processes: with two each, two at once crawl

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from accelerate.state import AcceleratorState

from peftbench.errors import UsageError
from peftbench.models.resolve import resolve_model
from peftbench.models.starters import byte_tokenizer, move_vectors
from peftbench.models.streams import stream
from peftbench.plugins import build, registry
from peftbench.records.runs import Budget, LatencyGrid, Run


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Without a GPU, tests that need one are skipped; with one, `pytest -m cuda` is those alone."""
    if not torch.cuda.is_available():
        for item in items:
            if item.get_closest_marker("cuda"):
                item.add_marker(pytest.mark.skip(reason="needs a CUDA GPU"))


@pytest.fixture(scope="module", autouse=True)
def short_collections() -> None:
    """A run collects garbage several times; here it would walk all libraries and tests each time: .2 s, half of a tiny run."""
    gc.collect()
    gc.freeze()


SIZES: dict[str, Any] = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "max_position_embeddings": 128,
    "initializer_range": 0.2,  # large enough that changes of the inner layers show in the outputs
}


def _bert(vocabulary: int) -> Any:
    config = transformers.BertConfig(vocab_size=vocabulary, pad_token_id=0, **SIZES)
    return transformers.BertModel(config)


def _roberta(vocabulary: int) -> Any:
    config = transformers.RobertaConfig(vocab_size=vocabulary, pad_token_id=0, **SIZES)
    return transformers.RobertaModel(config)


def _distilbert(vocabulary: int) -> Any:
    config = transformers.DistilBertConfig(
        vocab_size=vocabulary,
        pad_token_id=0,
        dim=32,
        n_layers=2,
        n_heads=4,
        hidden_dim=64,
        max_position_embeddings=128,
        initializer_range=0.2,
    )
    return transformers.DistilBertModel(config)


def _gpt2(vocabulary: int) -> Any:
    config = transformers.GPT2Config(
        vocab_size=vocabulary, n_embd=32, n_layer=2, n_head=4, n_positions=128, pad_token_id=0, initializer_range=0.2,
        bos_token_id=2, eos_token_id=3,
    )  # fmt: skip
    return transformers.GPT2LMHeadModel(config)


def _llama(vocabulary: int) -> Any:
    config = transformers.LlamaConfig(vocab_size=vocabulary, pad_token_id=0, num_key_value_heads=2, **SIZES)
    return transformers.LlamaForCausalLM(config)


def _qwen2(vocabulary: int) -> Any:
    config = transformers.Qwen2Config(vocab_size=vocabulary, pad_token_id=0, num_key_value_heads=2, **SIZES)
    return transformers.Qwen2ForCausalLM(config)


def _t5(vocabulary: int) -> Any:
    """Its classifier reads the state of the end token, which is the tokenizer's `[SEP]`."""
    config = transformers.T5Config(
        vocab_size=vocabulary, d_model=32, d_kv=8, d_ff=64, num_layers=2, num_heads=4, initializer_factor=2.0,
        pad_token_id=0, eos_token_id=3,
    )  # fmt: skip
    config.decoder_start_token_id = 0
    return transformers.T5ForConditionalGeneration(config)


def _opt(vocabulary: int) -> Any:
    config = transformers.OPTConfig(
        vocab_size=vocabulary, pad_token_id=0, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, ffn_dim=64,
        max_position_embeddings=128, word_embed_proj_dim=32, init_std=0.2,
    )  # fmt: skip
    return transformers.OPTForCausalLM(config)


def _deberta(vocabulary: int) -> Any:
    config = transformers.DebertaV2Config(vocab_size=vocabulary, pad_token_id=0, **SIZES)
    return transformers.DebertaV2Model(config)


def _mpnet(vocabulary: int) -> Any:
    """A family that is not in the table of roles."""
    return transformers.MPNetModel(transformers.MPNetConfig(vocab_size=vocabulary, pad_token_id=0, **SIZES))


MAKERS: dict[str, Callable[[int], Any]] = {
    "bert": _bert,
    "roberta": _roberta,
    "distilbert": _distilbert,
    "gpt2": _gpt2,
    "llama": _llama,
    "qwen2": _qwen2,
    "t5": _t5,
    "opt": _opt,
    "deberta": _deberta,
    "mpnet": _mpnet,
}


@pytest.fixture(scope="session", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A cache folder of the test session, never the user's."""
    folder = tmp_path_factory.mktemp("cache")
    before = os.environ.get("PEFTBENCH_CACHE")
    os.environ["PEFTBENCH_CACHE"] = str(folder)
    yield folder
    if before is None:
        del os.environ["PEFTBENCH_CACHE"]
    else:
        os.environ["PEFTBENCH_CACHE"] = before


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], str]:
    """The folder of a tiny checkpoint of a family, made on first use."""
    home = tmp_path_factory.mktemp("checkpoints")

    def of_family(family: str) -> str:
        folder = home / family
        if not folder.is_dir():
            tokenizer = byte_tokenizer()
            with stream(0, family):
                model = MAKERS[family](len(tokenizer))
                move_vectors(model)
            model.save_pretrained(folder)
            tokenizer.save_pretrained(folder)
        return str(folder)

    return of_family


@pytest.fixture(scope="session", autouse=True)
def registered() -> None:
    for kind in registry.KINDS:
        registry.load(kind)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Two cores are shared by all; on tiny models one thread is faster and every figure repeats."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(autouse=True)
def fresh_accelerate() -> Iterator[None]:
    """Accelerate keeps its data type in global state: a run has a process of its own, the tests share one."""
    yield
    AcceleratorState._reset_state(reset_partial_state=True)


@functools.cache
def _revision(model: str) -> str:
    """Of a model's files, which a run's process looks at; of a name alone the name."""
    try:
        return resolve_model(model).revision
    except UsageError:
        return model


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[small_hub.SmallHub]:
    """A hub on loopback with nothing in it, caches with nothing in them, and clients that may ask it."""
    import datasets
    from huggingface_hub import constants

    home = tmp_path / "hf"
    monkeypatch.setenv("PEFTBENCH_CACHE", str(home / "peftbench"))
    monkeypatch.setenv("HF_TOKEN", "")
    for module, name, value in (
        (constants, "HF_HUB_OFFLINE", False),
        (constants, "HF_HUB_CACHE", str(home / "hub")),
        (constants, "HF_TOKEN_PATH", str(home / "token")),
        (datasets.config, "HF_HUB_OFFLINE", False),
        (datasets.config, "HF_DATASETS_CACHE", home / "datasets"),
        (datasets.config, "DOWNLOADED_DATASETS_PATH", str(home / "datasets" / "downloads")),
    ):
        monkeypatch.setattr(module, name, value)
    (home / "datasets" / "downloads").mkdir(parents=True)
    yield small_hub.start()
    small_hub.HUB.reset()


TASK = "synthetic:train_items=64:test_items=40"  # of a run, unless a test says otherwise


@functools.cache
def _fingerprint(task: str) -> str:
    return build.build_task(task).fingerprint()


def _data(changes: dict[str, Any]) -> str:
    """What a run that is done must have been planned on; many are only reported, of tasks that there are not."""
    return _fingerprint(TASK) if changes.get("task", TASK) == TASK else "1"


@pytest.fixture(scope="session")
def make_run() -> Callable[..., Run]:
    """A training run on `synthetic`, with the fields that a test changes."""

    def make(
        method: str = "lora", model: str = "tiny-encoder", seed: int = 0, steps: int = 5, **changes: Any
    ) -> Run:
        fields: dict[str, Any] = {
            "kind": "training",
            "method": method,
            "model": model,
            "task": TASK,
            "seed": seed,
            "learning_rate": 1e-2,
            "head_learning_rate": 1e-2,
            "weight_decay": 0.0,
            "budget": Budget("custom", steps, None, 8, 1, 32),
            "device": "cpu",
            "dtype": "float32",
            "grid": LatencyGrid(((1, 8),), rounds=4),
            "plugins": (),
            "identity": {"model": _revision(model), "task": "1", "data": _data(changes), "method": "1"},
        }
        return Run(**{**fields, **changes})

    return make


@pytest.fixture
def pairs(tmp_path: Path) -> str:
    """SPEC of a small task of writing: 60 questions and their answers."""
    file = tmp_path / "pairs.jsonl"
    file.write_text("".join(f'{{"q": "ask {i}", "a": "say {i % 3} now"}}\n' for i in range(60)))
    return f"jsonl:path={file}:prompt=q:completion=a"
