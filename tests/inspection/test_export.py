"""Exports give the same outputs in the libraries that read them, and a PEFT LoRA is read back with its rank and alpha.

Long because what is written and what is read back are tried on the same families with the same trained models.
"""

from __future__ import annotations

import dataclasses
import json
import shutil
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from torch import Tensor

from peftbench import UsageError
from peftbench.cli.app import main
from peftbench.execution.prepare import Prepared
from peftbench.inspection.export import export
from peftbench.inspection.stored_runs import exportable
from peftbench.models.resolve import resolve_model
from peftbench.plugins.build import build_method

from ..support.adapted import adapted, inputs, logits
from ..support.exported import SMALL, Make, Of, exported, peft, same, saved, trained
from ..support.hub import SmallHub

__all__ = ["trained"]  # a fixture


def stock(prepared: Prepared, model: str) -> Any:
    """The base model that a stranger would load."""
    kind: Any = type(prepared.adaptation.model)
    if kind.__name__ == "MeanPooledClassifier":
        return transformers.AutoModel.from_pretrained(resolve_model(model).location).eval()
    return kind.from_pretrained(resolve_model(model).location, num_labels=2).eval()


def outputs(model: Any, folder: Path) -> Tensor:
    """Logits of a stock model, or of an encoder with the head beside it, as the README in the folder says."""
    with torch.no_grad():
        out = model(**inputs())
        if hasattr(out, "logits"):
            logits: Tensor = out.logits
            return logits
        head = load_file(folder / "head.safetensors")
        mask = inputs()["attention_mask"][..., None].float()
        mean = (out.last_hidden_state * mask).sum(1) / mask.sum(1)
        pooled: Tensor = mean @ head["classifier.weight"].T + head["classifier.bias"]
        return pooled


def in_peft(prepared: Prepared, model: str, folder: Path) -> Tensor:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.filterwarnings("error", message="Found missing adapter keys")
        loaded = peft.PeftModel.from_pretrained(stock(prepared, model), folder).eval()
    return outputs(loaded, folder)


PAIRS = [
    "lora:rank=3:alpha=5",
    "rslora:rank=4",
    "lora-plus",
    "lora-fa",
    "dora:rank=4",
    "pissa:rank=2:alpha=3",
    "adalora:initial_rank=4:target_rank=2",
]


@pytest.mark.parametrize("family", ["tiny-encoder", "bert", "roberta", "llama", "gpt2"])
@pytest.mark.parametrize("method", [*PAIRS, "ia3"])
def test_the_peft_library_gives_the_same_outputs(
    method: str, family: str, trained: Any, checkpoint: Of, tmp_path: Path
) -> None:
    """Up to the order of float32 sums."""
    model = family if family.startswith("tiny") else checkpoint(family)
    prepared, record = trained(method, model)
    folder = exported(record, tmp_path)
    assert same(in_peft(prepared, model, folder), logits(prepared))
    config = json.loads((folder / "adapter_config.json").read_text())
    named = config["base_model_name_or_path"]
    assert config["inference_mode"] and named == model
    assert config["task_type"] == ("FEATURE_EXTRACTION" if family == "tiny-encoder" else "SEQ_CLS")
    assert (folder / "head.safetensors").is_file() == (family == "tiny-encoder")
    assert bool(config.get("modules_to_save")) == (family != "tiny-encoder")
    if config["peft_type"] == "LORA" and method.startswith("lora:"):
        pairs = 2 if family == "gpt2" else 1
        assert (config["r"], config["lora_alpha"]) == (3 * pairs, 5 * pairs)


@pytest.mark.parametrize("family", ["tiny-encoder", "bert", "llama"])
def test_vera_over_whole_modules_is_the_librarys(
    family: str, trained: Any, checkpoint: Of, tmp_path: Path
) -> None:
    model = family if family.startswith("tiny") else checkpoint(family)
    prepared, record = trained("vera:rank=4:targets=query+value+ffn_out", model)
    assert same(in_peft(prepared, model, exported(record, tmp_path)), logits(prepared))


@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_a_prompt_of_a_language_model_is_the_librarys(
    family: str, checkpoint: Of, make_run: Make, pairs: str, tmp_path: Path
) -> None:
    run = make_run("prompt:length=3", checkpoint(family), task=pairs)
    prepared = adapted(run)
    form = build_method(run.method)[0].to_peft(prepared.adaptation)  # type: ignore[attr-defined]
    save_file(form.tensors, tmp_path / "adapter_model.safetensors")
    (tmp_path / "adapter_config.json").write_text(json.dumps({**form.config, "task_type": "CAUSAL_LM"}))
    base = transformers.AutoModelForCausalLM.from_pretrained(checkpoint(family)).eval()
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        theirs = peft.PeftModel.from_pretrained(base, tmp_path).eval()(**inputs()).logits
    ours, real = logits(prepared), inputs()["attention_mask"].bool()
    assert same(theirs[:, 3:][real], ours[real])


def test_layers_of_different_ranks_are_named(trained: Any, checkpoint: Of, tmp_path: Path) -> None:
    """GPT-2's fused projection has two pairs, its output projection one."""
    model = checkpoint("gpt2")
    prepared, record = trained("lora:rank=2:targets=query+key+attention_output", model)
    folder = exported(record, tmp_path)
    assert same(in_peft(prepared, model, folder), logits(prepared))
    config = json.loads((folder / "adapter_config.json").read_text())
    assert sorted({config["r"], *config["rank_pattern"].values()}) == [2, 4]


@pytest.mark.parametrize(
    "kind", ["LORA", "IA3", "VERA", "VBLORA", "LN_TUNING", "BOFT", "LOKR", "TINYLORA", "LILY", "OSF"]
)
@pytest.mark.parametrize("family", ["tiny-encoder", "llama"])
def test_what_the_bridge_trained(
    kind: str, family: str, trained: Any, checkpoint: Of, tmp_path: Path
) -> None:
    model = family if family.startswith("tiny") else checkpoint(family)
    options = f":{SMALL[kind]}" if kind in SMALL else ""
    prepared, record = trained(f"peft:type={kind}{options}", model)
    assert same(in_peft(prepared, model, exported(record, tmp_path)), logits(prepared))


@pytest.mark.parametrize("family", ["tiny-encoder", "roberta", "llama", "gpt2"])
@pytest.mark.parametrize("method", ["lora", "peft-lora", "full"])
def test_merged_is_a_plain_model(
    method: str, family: str, trained: Any, checkpoint: Of, tmp_path: Path
) -> None:
    model = family if family.startswith("tiny") else checkpoint(family)
    prepared, record = trained(method, model)
    folder = exported(record, tmp_path, merged=True)
    kind: Any = type(prepared.adaptation.model)
    plain = transformers.AutoModel if family == "tiny-encoder" else kind
    loaded = plain.from_pretrained(folder).eval()
    assert getattr(loaded.config, "use_cache", True)
    assert not any("lora" in name for name, _ in loaded.named_parameters())
    assert same(outputs(loaded, folder), logits(prepared))
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    assert tokenizer("a film")["input_ids"] == prepared.tokenizer("a film")["input_ids"]


def test_a_merged_model_says_its_labels(trained: Any, checkpoint: Of, tmp_path: Path) -> None:
    """BART's config has three where none are named, and the library leaves out to name two."""
    folder = tmp_path / "bart"
    shutil.copytree(checkpoint("bert"), folder)  # for its tokenizer
    options: dict[str, Any] = {f"{side}_{what}": n for side in ("encoder", "decoder") for what, n in (("layers", 1), ("attention_heads", 2), ("ffn_dim", 8))}  # fmt: skip
    config = transformers.BartConfig(
        vocab_size=300, d_model=8, max_position_embeddings=64, pad_token_id=0, bos_token_id=2, eos_token_id=3,
        decoder_start_token_id=3, forced_eos_token_id=3, **options,
    )  # fmt: skip
    transformers.BartForConditionalGeneration(config).save_pretrained(folder)
    prepared, record = trained("full", str(folder))
    kind: Any = type(prepared.adaptation.model)
    loaded = kind.from_pretrained(exported(record, tmp_path, merged=True)).eval()
    assert same(outputs(loaded, folder), logits(prepared))


def test_exports_that_can_not_be(trained: Any, checkpoint: Of, tmp_path: Path) -> None:
    _, adapter = trained("adapter", checkpoint("bert"))
    _, sliced = trained("vera:rank=4", checkpoint("gpt2"))
    _, prompt = trained("prompt", checkpoint("llama"))
    _, prefix = trained("prefix", checkpoint("llama"))
    _, quantised = trained("qlora:rank=4:bits=8", checkpoint("bert"))
    _, with_prefix = trained("lora-prefix-embed", checkpoint("llama"))
    for record, merged, said in (
        (adapter, False, "no form in the PEFT library$"),
        (sliced, False, "slices of .* have vectors of their own.*; --merged writes a plain model"),
        (prompt, False, "only language models have the same prompt there"),
        (prefix, False, "tokens' places begin behind it"),
        (quantised, False, "no library has its base in 8 bits"),
        (with_prefix, False, "no form in the PEFT library"),
        (adapter, True, "does not merge into plain layers; leave --merged out"),
    ):
        with pytest.raises(UsageError, match=said):
            exported(record, tmp_path, merged)
    assert not [path for path in tmp_path.iterdir() if path.name != "runs"]


def test_runs_that_can_not_be(trained: Any, tmp_path: Path) -> None:
    runs, to = tmp_path / "runs", tmp_path / "to"
    _, good = trained("lora", "tiny-encoder")
    _, failed = trained(
        "lora:rank=2", "tiny-encoder", status="failed", reason="Diverged: the loss is not finite"
    )
    _, lost = trained("full", "tiny-encoder", keep=False)
    to.mkdir()
    assert exportable(runs, good.key, to).record.key == good.key
    for start, folder, said in (
        ("nothing", to, "no run's key begins with 'nothing'"),
        ("", to, "no run's key begins with ''"),
        (failed.key, to, "is failed: Diverged: the loss is not finite; there is nothing to export"),
        (lost.key, to, "run it with --keep-weights into another --store"),
        (good.key, runs, "is not empty; name a folder that is new or empty"),
        (good.key, next(runs.rglob("record.json")), "is a file"),
    ):
        with pytest.raises(UsageError, match=said):
            exportable(runs, start, folder)


def test_a_changed_base_is_refused(trained: Any, checkpoint: Of, tmp_path: Path, monkeypatch: Any) -> None:
    _, record = trained("lora", "tiny-encoder")
    from peftbench.models.resolve import resolve_model

    real = resolve_model
    changed = real("tiny-encoder").__class__("tiny-encoder", real("tiny-encoder").location, "another")
    monkeypatch.setattr("peftbench.models.resolve.resolve_model", lambda name: changed)
    with pytest.raises(UsageError, match="not those that the run was trained on"):
        exported(record, tmp_path)


def test_the_command(trained: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """An export by the first characters of a run's key, and one line for a key that no run has."""
    _, record = trained("lora", "tiny-encoder")
    command = [sys.executable, "-W", "error", "-m", "peftbench", "export", record.key[:8], "--to", "out"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    adapter = "adapter_config.json, adapter_model.safetensors, head.safetensors"
    assert done.stdout == f"out: README.md, {adapter}, tokenizer.json, tokenizer_config.json\n"
    with pytest.raises(SystemExit) as left:
        main(["export", "zzz", "--to", str(tmp_path / "out2"), "--store", str(tmp_path / "runs")])
    said = capsys.readouterr()
    assert left.value.code == 2 and said.out == ""
    assert said.err.startswith("peftbench: no run's key begins with 'zzz'") and said.err.count("\n") == 1


def test_a_stranger_loads_an_export_of_a_model_of_the_hub_by_its_files_alone(
    hub: SmallHub, trained: Any, checkpoint: Of, tmp_path: Path
) -> None:
    """Class, base, its commit and tokenizer stand in the export; the hub has moved on."""
    files = {file.name: file.read_bytes() for file in Path(checkpoint("bert")).iterdir()}
    commit = hub.push("org/base", {**files, "README.md": b"---\nlicense: mit\n---\n"})
    prepared, record = trained("lora:rank=3", "org/base@main")
    hub.push("org/base", {"config.json": b"{}"})
    folder = exported(record, tmp_path)
    config = json.loads((folder / "adapter_config.json").read_text())
    assert (config["base_model_name_or_path"], config["revision"]) == ("org/base", commit)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        loaded = peft.AutoPeftModelForSequenceClassification.from_pretrained(folder, num_labels=2).eval()
    assert same(outputs(loaded, folder), logits(prepared))
    assert transformers.AutoTokenizer.from_pretrained(folder)("a")["input_ids"]
    data: Any = huggingface_hub.ModelCard.load(folder / "README.md").data
    assert (data.base_model, data.library_name, data.license) == ("org/base", "peft", "mit")
    assert "# lora:rank=3 on org/base@main, task" in (folder / "README.md").read_text()


def test_an_empty_folder_is_written_into_and_kept(trained: Any, tmp_path: Path) -> None:
    """It may be a file system of its own, which can't be moved away."""
    _, record = trained("lora", "tiny-encoder")
    (tmp_path / "volume").mkdir()
    before = (tmp_path / "volume").stat().st_ino
    folder = exportable(tmp_path / "runs", record.key[:8], tmp_path / "volume").folder
    files = export(folder, tmp_path / "volume", merged=False)
    assert (tmp_path / "volume").stat().st_ino == before
    assert sorted(path.name for path in (tmp_path / "volume").iterdir()) == files and "README.md" in files
    file = tmp_path / "file"
    file.touch()
    with pytest.raises(UsageError, match=r"--to .*file/out' can't be written: "):
        export(folder, file / "out", merged=False)


@pytest.mark.parametrize("family", ["bert", "llama"])
def test_lora_starts_from_a_peft_checkpoint(
    family: str, tmp_path: Path, make_run: Make, checkpoint: Of
) -> None:
    """Saved from another class: the names before the encoder differ."""
    head = {"bert": "BertModel", "llama": "LlamaForCausalLM"}[family]
    targets = ["query", "value"] if family == "bert" else ["q_proj", "v_proj"]
    options = {"r": 4, "lora_alpha": 12, "target_modules": targets}
    theirs, _ = saved(tmp_path / "adapter", checkpoint(family), "LORA", options, head)
    run = make_run(f"lora:rank=4:alpha=12:start='{tmp_path / 'adapter'}'", checkpoint(family))
    model: Any = adapted(run).adaptation.model
    with torch.no_grad():
        inner = theirs.base_model.model if family == "bert" else theirs.base_model.model.model
        want = inner(**inputs()).last_hidden_state
        assert same(model.base_model(**inputs()).last_hidden_state, want)


@pytest.mark.parametrize("family", ["tiny-encoder", "gpt2"])
def test_an_exported_lora_is_a_start(
    family: str, trained: Any, checkpoint: Of, make_run: Make, tmp_path: Path
) -> None:
    """There and back, bitwise, through the block structure of a fused projection too."""
    model = family if family.startswith("tiny") else checkpoint(family)
    prepared, record = trained("lora:rank=4:alpha=6", model)
    spec = f"lora:rank=4:alpha=6:start='{exported(record, tmp_path)}'"
    again = adapted(make_run(spec, model, seed=3)).adaptation
    assert all(torch.equal(p, again.params[name]) for name, p in prepared.adaptation.params.items())


@pytest.mark.parametrize(
    ("kind", "options", "said"),
    [
        ("LORA", {"r": 4, "lora_alpha": 8}, "its rank is 4 and its alpha 8, the method's are 8 and 16"),
        ("LORA", {"r": 8, "lora_alpha": 8}, "its rank is 8 and its alpha 8, the method's are 8 and 16"),
        ("LORA", {"r": 8, "lora_alpha": 16, "use_rslora": True}, "its alpha 16 \\(rslora\\), .* rank=8:alpha=45.2548"),
        ("LORA", {"r": 8, "lora_alpha": 16, "alpha_pattern": {r"layer\.0\..*query": 64}}, "its alpha 64, the method's"),
        ("LORA", {"r": 8, "lora_alpha": 16, "init_lora_weights": "pissa"}, "over a base that pissa had changed"),
        ("LORA", {"r": 8, "lora_alpha": 16, "use_dora": True}, "made with use_dora"),
        ("LORA", {"r": 8, "lora_alpha": 16, "bias": "lora_only"}, "also trained biases"),
        ("LORA", {"r": 8, "lora_alpha": 16, "trainable_token_indices": [5]}, "also trained embeddings of single tokens"),
        ("LORA", {"r": 8, "lora_alpha": 16, "target_modules": ["query"]}, "only in the method: .*value"),
        ("LORA", {"r": 8, "lora_alpha": 16, "target_modules": ["query", "key", "value"]}, "only in the checkpoint: .*key"),
        ("IA3", {"feedforward_modules": []}, "is a IA3 adapter, not a LoRA"),
    ],
)  # fmt: skip
def test_a_start_that_would_ruin_the_model_is_refused(
    kind: str, options: dict[str, Any], said: str, tmp_path: Path, make_run: Make, checkpoint: Of
) -> None:
    options = {"target_modules": ["query", "value"], **options}
    saved(tmp_path / "adapter", checkpoint("bert"), kind, options, "BertModel")
    with pytest.raises(UsageError, match=said):
        adapted(make_run(f"lora:start='{tmp_path / 'adapter'}'", checkpoint("bert")))


def test_a_config_that_is_not_one_is_said(tmp_path: Path, make_run: Make, checkpoint: Of) -> None:
    options = {"r": 8, "lora_alpha": 16, "target_modules": ["query", "value"]}
    saved(tmp_path / "adapter", checkpoint("bert"), "LORA", options, "BertModel")
    file = tmp_path / "adapter" / "adapter_config.json"
    good = json.loads(file.read_text())
    for name, value in (("r", "x"), ("lora_alpha", [1]), ("rank_pattern", True), ("alpha_pattern", {"(": 1})):
        file.write_text(json.dumps({**good, name: value}))
        with pytest.raises(UsageError, match=r"adapter_config.json has no r and lora_alpha that can be read"):
            adapted(make_run(f"lora:start='{tmp_path / 'adapter'}'", checkpoint("bert")))


def test_one_pair_over_a_fused_projection_is_refused(tmp_path: Path, make_run: Make, checkpoint: Of) -> None:
    options = {"r": 8, "lora_alpha": 16, "target_modules": ["c_attn"], "fan_in_fan_out": True}
    saved(tmp_path / "adapter", checkpoint("gpt2"), "LORA", options, "GPT2Model")
    start = f"start='{tmp_path / 'adapter'}'"
    with pytest.raises(UsageError, match="one pair over all of .*the method has 2"):
        adapted(make_run(f"lora:{start}", checkpoint("gpt2")))
    with pytest.raises(UsageError, match="reach outputs that the method does not adapt"):
        adapted(make_run(f"lora:rank=4:alpha=8:{start}", checkpoint("gpt2")))


def test_rslora_is_told_the_alpha_that_gives_the_same_factor(
    tmp_path: Path, make_run: Make, checkpoint: Of
) -> None:
    options = {"r": 4, "lora_alpha": 16, "target_modules": ["query", "value"]}
    saved(tmp_path / "adapter", checkpoint("bert"), "LORA", options, "BertModel")
    start = f"start='{tmp_path / 'adapter'}'"
    with pytest.raises(UsageError, match="write rank=4:alpha=8"):  # 16 / 4 = 8 / sqrt 4
        adapted(make_run(f"rslora:{start}", checkpoint("bert")))
    assert adapted(make_run(f"rslora:rank=4:alpha=8:{start}", checkpoint("bert"))).adaptation.params


def test_the_readmes_code_loads_over_a_base_with_a_head_of_its_own(
    trained: Any, checkpoint: Of, tmp_path: Path
) -> None:
    """Of other labels than the task's: the library refuses such a base unless it is told."""
    folder = tmp_path / "five-labels"
    shutil.copytree(checkpoint("bert"), folder)
    kind: Any = transformers.BertForSequenceClassification
    kind.from_pretrained(folder, num_labels=5).save_pretrained(folder)
    prepared, record = trained("lora:rank=3", str(folder))
    text = (exported(record, tmp_path) / "README.md").read_text()
    code = text.split("```python")[1].split("```")[0].replace("FOLDER", repr(str(tmp_path / "out-False")))
    names: dict[str, Any] = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        exec(code, names)  # noqa: S102  what a reader would run
    assert same(outputs(names["model"].eval(), folder), logits(prepared))


@pytest.mark.parametrize("said", [None, 5])
def test_the_readme_says_how_to_load_the_model_that_was_trained(
    said: int | None, trained: Any, checkpoint: Of, tmp_path: Path
) -> None:
    """Its type, its outputs and, where the base has no or another one, its padding; and no folder of this machine in the title."""
    folder = tmp_path / "no-padding"
    shutil.copytree(checkpoint("gpt2"), folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "pad_token_id": said}))
    _, record = trained("lora", str(folder))
    text = (exported(record, tmp_path) / "README.md").read_text()
    assert "num_labels=2, pad_token_id=0" in text and "dtype='float32'" in text
    assert "\n# lora on no-padding, task synthetic" in text and str(tmp_path) not in text.partition("```")[0]


def test_half_an_encoder_decoder_is_no_checkpoint(trained: Any, checkpoint: Of, tmp_path: Path) -> None:
    _, record = trained("head", checkpoint("t5"))
    with pytest.raises(UsageError, match="T5Stack, which transformers does not load"):
        exported(record, tmp_path, merged=True)


@pytest.mark.parametrize("kind", ["method", "task"])
def test_what_came_from_a_file_that_is_gone_is_asked_for(kind: str, trained: Any, tmp_path: Path) -> None:
    _, record = trained("lora", "tiny-encoder")
    moved = dataclasses.replace(record.run, plugins=(str(tmp_path / "gone.py"),), **{kind: "in-no-registry"})
    (tmp_path / "record.json").write_text(dataclasses.replace(record, run=moved).to_text())
    said = f"{kind} 'in-no-registry' came from .*gone.py, which is gone; say where"
    with pytest.raises(UsageError, match=said):
        export(tmp_path, tmp_path / "to", merged=False)
