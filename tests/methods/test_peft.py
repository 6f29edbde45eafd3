"""The bridge to the PEFT library: every tuner of the installed release trains and keeps its claims, or says why not."""

from __future__ import annotations

import copy
import dataclasses
import importlib
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from peftbench import NotSupported, UsageError
from peftbench.execution.prepare import Prepared, inject, prepare
from peftbench.measure.parameters import count_parameters
from peftbench.models.load import load_model
from peftbench.models.precision import frozen_in
from peftbench.models.resolve import resolve_model
from peftbench.objectives.completion import Completion
from peftbench.plugins.build import build_method, build_task, canonical, method_identity
from peftbench.records.runs import Run

from ..support.adapted import ROUNDING, adapted, fresh, inputs, logits, train_some
from ..support.exported import SMALL, peft, same, saved

Make = Callable[..., Run]
Of = Callable[[str], str]
# torch's own warning, at the first sparse product of a process; one tuner makes them
pytestmark = pytest.mark.filterwarnings("ignore:Sparse invariant checks are implicitly disabled")
KINDS = sorted(kind.value for kind in peft.mapping.PEFT_TYPE_TO_TUNER_MAPPING)
REFUSED = {
    "ADALORA", "CARTRIDGE", "CPT", "MULTITASK_PROMPT_TUNING", "POLY", "PREFIX_TUNING", "PROMPT_TUNING", "P_TUNING",
    "SHADOW", "TRAINABLE_TOKENS", "XLORA",
}  # fmt: skip
ONE_FAMILY = {("ADAPTION_PROMPT", "bert")}  # knows decoders alone


def spec_of(kind: str) -> str:
    return f"peft:type={kind}" + (f":{SMALL[kind]}" if kind in SMALL else "")


def test_the_table_knows_every_tuner_of_this_release() -> None:
    tuners = importlib.import_module("peftbench.methods.peft").TUNERS
    assert sorted(tuners) == KINDS
    assert {kind for kind, tuner in tuners.items() if tuner.refusal} == REFUSED


@pytest.mark.parametrize("family", ["bert", "llama"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_tuner_keeps_its_claims_or_says_why_not(
    kind: str, family: str, make_run: Make, checkpoint: Of
) -> None:
    run = make_run(spec_of(kind), checkpoint(family))
    refused = kind in REFUSED or (kind, family) in ONE_FAMILY
    try:
        prepared = adapted(run)
    except NotSupported as refusal:
        assert refused, refusal
        assert kind in str(refusal) and len(str(refusal)) > 40
        return
    assert not refused
    adaptation, claims = prepared.adaptation, prepared.claims
    with adaptation.without():
        base = logits(prepared)
    assert same(logits(prepared), base) == claims.identity_at_init
    again, other = adapted(run).adaptation, adapted(dataclasses.replace(run, seed=1)).adaptation
    assert all(torch.equal(p, again.params[name]) for name, p in adaptation.params.items())
    everything = {**other.params, **other.frozen}
    mine = {**adaptation.params, **adaptation.frozen}
    assert any(not torch.equal(mine[name], t) for name, t in everything.items()) == claims.random_init
    own = {id(p): p.detach().clone() for p in prepared.base}
    train_some(prepared)
    trained = logits(prepared)
    assert not same(trained, base, 1e-3)
    heads = {id(p) for p in prepared.head.values()}
    assert all(torch.equal(p, own[id(p)]) for p in prepared.base if id(p) not in heads)
    assert adaptation.mergeable == claims.mergeable
    if claims.mergeable:
        with adaptation.merged():
            # Weights of a merged layer are summed in another order than outputs are.
            assert (logits(prepared) - trained).norm() <= 1e-3 * (
                trained - base
            ).norm() + ROUNDING * base.norm()
        assert torch.equal(logits(prepared), trained)
    loaded = adapted(dataclasses.replace(run, seed=1))
    loaded.adaptation.load({name: t.clone() for name, t in adaptation.state().items()})
    for name, p in loaded.head.items():
        p.data.copy_(prepared.head[name].data)
    assert torch.equal(logits(loaded), trained)
    for p in prepared.head.values():
        p.data.copy_(own[id(p)])
    adaptation.remove()
    assert torch.equal(logits(prepared), base)


@pytest.mark.parametrize("kind", sorted(set(KINDS) - REFUSED))
def test_counts_are_known_without_weights(kind: str, make_run: Make, checkpoint: Of) -> None:
    run = make_run(spec_of(kind), checkpoint("llama"))
    counts = []
    for device in ("cpu", "meta"):
        prepared = prepare(run, build_task(run.task).objective, device)
        counts.append(count_parameters(prepared.adaptation, prepared.head, prepared.base))
    assert counts[0] == counts[1]


@pytest.mark.parametrize("kind", sorted(set(KINDS) - REFUSED))
def test_stored_is_what_the_library_would_save(kind: str, make_run: Make, checkpoint: Of) -> None:
    """The same numbers, so that stored sizes are the method's own. FROD's file repeats what it derives from the base."""
    method: Any = build_method(spec_of(kind))[0]
    adaptation = adapted(make_run(spec_of(kind), checkpoint("llama"))).adaptation
    ours, theirs = (
        sum({t.data_ptr(): t.numel() for t in tensors.values()}.values())
        for tensors in (adaptation.state(), method.to_peft(adaptation).tensors)
    )
    assert ours == theirs or kind == "FROD"


@pytest.mark.parametrize("kind", sorted(set(KINDS) - REFUSED))
def test_half_precision_weights(kind: str, make_run: Make, checkpoint: Of) -> None:
    """Over bfloat16 weights under autocast, what trains stays float32 and has finite gradients."""
    run = make_run(spec_of(kind), checkpoint("llama"))
    loaded = fresh(run)
    loaded.model.to(torch.bfloat16)
    adaptation = inject(run, loaded, "cpu").adaptation
    with frozen_in(adaptation.model, torch.bfloat16), torch.autocast("cpu", torch.bfloat16):
        out: Any = adaptation.model(**inputs()).logits
    out.float().square().sum().backward()
    gradients = [p.grad for p in adaptation.params.values() if p.grad is not None]
    assert gradients and all(g.dtype == torch.float32 and g.isfinite().all() for g in gradients)


@pytest.mark.parametrize("targets", ["query", "key+ffn_out", "attention_output+ffn_in+ffn_out", "ffn_out"])
@pytest.mark.parametrize("family", ["bert", "llama", "gpt2"])
def test_targets_are_roles(family: str, targets: str, make_run: Make, checkpoint: Of) -> None:
    """The modules that `lora` adapts, and no others: the library matches endings, which other modules share."""
    with_roles = adapted(make_run(f"peft:type=LORA:targets={targets}", checkpoint(family))).adaptation
    assert (
        with_roles.swaps.keys()
        == adapted(make_run(f"lora:targets={targets}", checkpoint(family))).adaptation.swaps.keys()
    )


def test_ia3_scales_the_inputs_of_the_feed_forward(make_run: Make, checkpoint: Of) -> None:
    adaptation = adapted(make_run("peft-ia3", checkpoint("bert"))).adaptation
    layers: dict[str, Any] = {name: layer for name, (_, layer) in adaptation.swaps.items()}
    assert {name.rsplit(".", 1)[-1]: layer.is_feedforward for name, layer in layers.items()} == {
        "key": False, "value": False, "dense": True,
    }  # fmt: skip
    assert len(layers) == 6  # and not the output projection of attention, whose name ends alike


def test_names_and_options() -> None:
    assert canonical("peft-boft:boft_block_size=8") == "peft:type=BOFT:boft_block_size=8"
    assert canonical("peft:type=fourierft:n_frequency=7") == "peft:type=FOURIERFT:n_frequency=7"
    assert build_method("peft-ln-tuning")[1].claims.mergeable
    method, declared = build_method(
        "peft:type=LORA:r=4:use_rslora=true:init_lora_weights=gaussian:layers_to_transform=0+1"
    )
    config = method.config()  # type: ignore[attr-defined]
    assert (config.r, config.use_rslora, config.init_lora_weights) == (4, True, "gaussian")
    assert config.layers_to_transform == [0, 1]
    assert not declared.claims.identity_at_init  # another start than the one that was looked at


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("peft:type=LOR", "did you mean 'LORA'"),
        ("peft-boftt", "did you mean 'BOFT'"),
        ("peft-boft:boft_block_sise=4", "did you mean 'boft_block_size'"),
        ("peft-boft:boft_block_size=x", "must be a whole number, not 'x'"),
        ("peft-hra:apply_GS=maybe", "must be true or false"),
        ("peft:type=LORA:target_modules=query", "write targets=query\\+value"),
        ("peft:type=LORA:bias=all", "bitfit"),
        ("peft:type=LORA:rank_pattern=a", "can't be written in a SPEC"),
        ("peft:type=LORA:qalora_group_size=1.5", "must be a whole number"),
        ("peft:type=ADAPTION_PROMPT:targets=query", "has no targets"),
        ("peft:type=OFT:r=3:oft_block_size=4", "oft_block_size"),
        ("peft:type=LORA:path=x", "a type or a path"),
        ("peft", "say which tuner"),
        ("peft:r=4", "say which tuner"),
        ("peft:path=/nowhere", "adapter_config.json"),
        ("peft:type=LORA:revision=main", "the model is --model"),
        ("peft:type=LORA:qalora_group_size=4", "does nothing without use_qalora=true"),
        ("peft:type=OFT:eps=0.1", "does nothing without coft=true"),
    ],
)
def test_what_is_wrong_is_said_in_a_line(text: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        build_method(text)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("peft:type=LORA:init_lora_weights=eva", "needs a pass over data"),
        ("peft:type=LORA:init_lora_weights=loftq", "see `qlora`"),
        ("peft:type=ADAMSS:use_asa=true", "after each step"),
        ("peft:type=LORA:init_lora_weights=pissa", "writes over the model's own weights"),
        ("peft:type=C3A:block_size=7", "C3A"),
        ("peft:type=LORA:exclude_modules=qeury+key", "nothing in this model is called 'qeury'"),
        ("peft:type=LORA:exclude_modules=key", "exclude_modules leaves out nothing that is adapted"),
        ("peft:type=LORA:target_parameters=a+b", "nothing in this model is called 'a'"),
        ("peft:type=LORA:layers_to_transform=0+9", "this model has no layer 9"),
        ("peft:type=LORA:fan_in_fan_out=true", "warns of fan_in_fan_out"),
    ],
)
def test_what_can_not_be_served_is_a_row(text: str, said: str, make_run: Make) -> None:
    with pytest.raises(NotSupported, match=said):
        adapted(make_run(text))


def test_one_name_alone_is_a_name_and_no_expression(make_run: Make) -> None:
    plain, one, two = (
        adapted(make_run(f"peft:type=LORA{more}")).adaptation.params
        for more in ("", ":exclude_modules=query", ":exclude_modules=query+key")
    )
    assert one.keys() == two.keys() == {name for name in plain if ".query." not in name} < plain.keys()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"bias": "all"}, "biases"),
        ({"modules_to_save": ["embed_tokens", "lm_head"]}, "embed_tokens and lm_head"),
        ({"modules_to_save": ["input_layernorm"]}, "input_layernorm"),
        ({"target_modules": ["q_proj", "v_proj", "embed_tokens"]}, "embed_tokens"),
        ({"trainable_token_indices": [5, 6]}, "embeddings of single tokens"),
    ],
)
def test_what_an_adapter_trained_beside_its_pairs_is_not_dropped(
    options: dict[str, Any], said: str, tmp_path: Path, make_run: Make, checkpoint: Of
) -> None:
    wanted = {"target_modules": ["q_proj", "v_proj"], "r": 8, "lora_alpha": 16, **options}
    _, config = saved(tmp_path, checkpoint("llama"), "LORA", wanted, "LlamaForCausalLM")
    if "embed_tokens" in config.target_modules:  # which the library saves whole beside its pairs
        file = tmp_path / "adapter_model.safetensors"
        tensors = {name: t for name, t in load_file(file).items() if "embed_tokens.lora" not in name}
        save_file(tensors, file)
    loaded = load_model(resolve_model(checkpoint("llama")), Completion(), 0)
    for method in (f"lora:start={tmp_path}", str(tmp_path)):
        with pytest.raises(UsageError, match=f"the adapter also trained {said}.*, which would be lost"):
            inject(make_run(method, checkpoint("llama")), copy.deepcopy(loaded), "cpu")


def test_registration_does_not_import_the_library() -> None:
    code = (
        "import sys; from peftbench.plugins import registry; registry.load('method'); "
        "assert 'peft' not in sys.modules; "
        "import importlib.util as u; real = u.find_spec; "
        "u.find_spec = lambda name, *a: None if name == 'peft' else real(name, *a); "
        "from peftbench.plugins.build import build_method; build_method('peft-boft')"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "pip install 'peftbench[peft]'" in ran.stderr.splitlines()[-1]


@pytest.mark.parametrize(
    ("kind", "options", "family"),
    [
        ("LORA", {"r": 4, "lora_alpha": 7, "target_modules": ["query", "dense"], "use_rslora": True}, "bert"),
        ("LORA", {"r": 2, "target_modules": r"model\.layers\.1\..*_proj"}, "llama"),
        ("LORA", {"r": 2, "target_modules": ["c_attn"], "fan_in_fan_out": True}, "gpt2"),
        ("IA3", {"target_modules": ["key", "output.dense"], "feedforward_modules": ["output.dense"]}, "bert"),
        ("VERA", {"r": 8, "target_modules": ["q_proj"], "projection_prng_key": 5}, "llama"),
        ("VBLORA", {"vector_length": 16, "num_vectors": 16, "target_modules": ["query", "value"]}, "bert"),
        ("BOFT", {"target_modules": ["v_proj"], "layers_to_transform": [1]}, "llama"),
        ("LN_TUNING", {"target_modules": ["LayerNorm"]}, "bert"),
        ("SHIRA", {"r": 2, "target_modules": ["query"], "random_seed": 3}, "bert"),
    ],
)  # fmt: skip
def test_a_saved_adapter_is_a_start(
    kind: str, options: dict[str, Any], family: str, tmp_path: Path, make_run: Make, checkpoint: Of
) -> None:
    """The same outputs as the library's own model, up to the order of sums."""
    head = {"bert": "BertModel", "llama": "LlamaForCausalLM", "gpt2": "GPT2Model"}[family]
    theirs, _ = saved(tmp_path / "adapter", checkpoint(family), kind, options, head)
    run = make_run(f"{tmp_path / 'adapter'}", checkpoint(family))
    prepared: Prepared = adapted(run)
    model: Any = prepared.adaptation.model
    with torch.no_grad():
        want = theirs.get_base_model().base_model(**inputs()).last_hidden_state
        got = model.base_model(**inputs()).last_hidden_state
        with prepared.adaptation.without():
            assert not same(model.base_model(**inputs()).last_hidden_state, want, 1e-2)
    assert same(got, want)
    assert prepared.adaptation.params and not prepared.claims.identity_at_init


def test_a_changed_adapter_is_another_run(tmp_path: Path, checkpoint: Of) -> None:
    folder = tmp_path / "adapter"
    saved(folder, checkpoint("bert"), "LORA", {"target_modules": ["query"]}, "BertModel")
    assert canonical(str(folder)) == f"peft:path={folder}"
    before = method_identity(str(folder))
    saved(folder, checkpoint("bert"), "LORA", {"target_modules": ["query"], "r": 2}, "BertModel")
    assert method_identity(str(folder)) != before


def test_a_config_of_a_newer_library_is_not_read_in_part(
    tmp_path: Path, checkpoint: Of, make_run: Make
) -> None:
    saved(tmp_path, checkpoint("bert"), "LORA", {"target_modules": ["query"]}, "BertModel")
    config = json.loads((tmp_path / "adapter_config.json").read_text())
    method = make_run(str(tmp_path), checkpoint("bert"))
    (tmp_path / "adapter_config.json").write_text(json.dumps({**config, "use_next": False}))
    assert adapted(method).adaptation.params
    (tmp_path / "adapter_config.json").write_text(json.dumps({**config, "use_next": True}))
    with pytest.raises(
        UsageError, match="made with use_next, which the installed PEFT library does not know"
    ):
        adapted(method)
    (tmp_path / "adapter_config.json").write_text(json.dumps(config))
    (tmp_path / "adapter_model.safetensors").write_text("version https://git-lfs.github.com/spec/v1\n")
    with pytest.raises(UsageError, match="adapter_model.safetensors' is a git-lfs pointer"):
        adapted(method)


def test_an_adapter_of_another_model_is_refused(tmp_path: Path, checkpoint: Of, make_run: Make) -> None:
    saved(tmp_path / "adapter", checkpoint("llama"), "LORA", {"target_modules": ["q_proj"]}, "LlamaModel")
    with pytest.raises(UsageError, match="no place for"):
        adapted(make_run(str(tmp_path / "adapter"), checkpoint("bert")))
