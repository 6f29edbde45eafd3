"""A bridge to the PEFT library (github.com/huggingface/peft): its tuners as rows beside the others.

    peft:type=FOURIERFT:n_frequency=1000    a tuner by its PeftType, with options of its config
    peft-boft                               the same, short: peft:type=BOFT
    ./my-adapter                            a folder with an adapter_config.json: it goes on from there
    peft:path=org/adapter@revision          the same of the hub

Injection, formulas and initial values are the library's; trainer, meters, storage and proofs are those of every method.
`targets` are roles as everywhere here and become module names, so a fused projection (GPT-2's `c_attn`) is one module:
query, key and value are adapted together, whichever of them is asked for. Seeds that a tuner fixes in its config, such as
`projection_prng_key`, stay what the library sets: random places are then the same in all runs.

`TUNERS` holds what each tuner was seen to be with its defaults. What needs a step, a data pass or inputs of its own is
refused with its reason.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import nn

from peftbench import Adaptation, Claims, Facts, NotSupported, PeftExport, Preset, UsageError, method, sites
from peftbench.data.peft_files import adapter_folder
from peftbench.errors import unknown
from peftbench.folders import expanded
from peftbench.plugins.contracts import MethodDeclaration

from ._peft_layers import Checkpoint, exported, fields_of, inject_tuner, library, quiet, set_targets
from ._peft_options import check_heard, check_names, check_needs, convert


@dataclass(frozen=True)
class Tuner:
    """What one of the library's tuners is with its default options."""

    identity: bool = True  # starts as the base
    random: bool = False  # the run's seed reaches what it trains
    merges: bool = True
    learning_rate: float = 2e-3
    targets: str = "query+value"
    refusal: str = ""  # why it can't be trained here


PROMPT = "its forward pass puts tokens before the input: use `prompt`"
PREFIX = "it needs the library's own forward pass: use `prefix`"
TUNERS: dict[str, Tuner] = {
    "ADALORA": Tuner(
        refusal="it asks for a call of its own after each step (update_and_allocate): use `adalora`"
    ),
    "ADAMSS": Tuner(random=True),
    "ADAPTION_PROMPT": Tuner(random=True, merges=False, targets=""),
    "BEFT": Tuner(merges=False, targets="value"),
    "BOFT": Tuner(),
    "C3A": Tuner(identity=False, random=True),
    "CARTRIDGE": Tuner(refusal=f"it distils keys and values from a text in a data pass: {PREFIX}"),
    "CPT": Tuner(refusal="it needs the token ids of its examples (cpt_token_ids): use `prompt`"),
    "DEFT": Tuner(random=True),
    "DELORA": Tuner(random=True),
    "FOURIERFT": Tuner(identity=False, random=True, learning_rate=2e-2),
    "FROD": Tuner(),
    "GLORA": Tuner(random=True),
    "GRALORA": Tuner(random=True),
    "HIRA": Tuner(random=True),
    "HRA": Tuner(random=True),
    "IA3": Tuner(learning_rate=6.3e-3, targets="key+value+ffn_out"),
    "LILY": Tuner(random=True, merges=False),
    "LN_TUNING": Tuner(targets="norm"),
    "LOHA": Tuner(random=True),
    "LOKR": Tuner(random=True),
    "LORA": Tuner(random=True),
    "MISS": Tuner(),
    "MULTITASK_PROMPT_TUNING": Tuner(refusal="it needs a task id with each item; " + PROMPT),
    "OFT": Tuner(),
    "OSF": Tuner(),
    "PEANUT": Tuner(random=True),
    "POLY": Tuner(refusal="it needs a task id with each item, which batches here do not have: use `lora`"),
    "PREFIX_TUNING": Tuner(refusal=PREFIX),
    "PROMPT_TUNING": Tuner(refusal=PROMPT),
    "PSOFT": Tuner(),
    "PVERA": Tuner(),
    "P_TUNING": Tuner(refusal=PROMPT),
    "RANDLORA": Tuner(),
    "ROAD": Tuner(),
    "SHADOW": Tuner(
        refusal="it trains a second model with a loss of its own, from outputs of its own forward pass"
    ),
    "SHIRA": Tuner(),
    "SUPERTUNING": Tuner(),
    "TINYLORA": Tuner(),
    "TRAINABLE_TOKENS": Tuner(
        refusal="it needs the indices of the tokens to train (token_indices): use `full`"
    ),
    "UNILORA": Tuner(identity=False, random=True),
    "VBLORA": Tuner(identity=False, random=True),
    "VERA": Tuner(learning_rate=2e-2),
    "WAVEFT": Tuner(learning_rate=2e-2),
    "XLORA": Tuner(
        refusal="it mixes adapters that are trained already, which it has to be given: use `lora`"
    ),
}
NOT_SEEN = Tuner(identity=False, merges=False)  # a type of another release of the library
OURS = {  # option of the config -> what is to be done instead
    "target_modules": "write targets=query+value: roles, the same words on every model",
    "feedforward_modules": "write targets with ffn_in or ffn_out: those are the feed-forward modules",
    "modules_to_save": "leave it out: the head trains anyway",
    "bias": "leave it out, and see `bitfit` for training biases",
    "task_type": "leave it out: the task is --task",
    "inference_mode": "leave it out",
    "base_model_name_or_path": "leave it out: the model is --model",
    "revision": "leave it out: the model is --model",
    "auto_mapping": "leave it out: it changes nothing",
    "peft_type": "write type=NAME",
    "peft_version": "leave it out: it changes nothing",
    "megatron_core": "leave it out: nothing here runs on Megatron",
    "megatron_config": "leave it out: nothing here runs on Megatron",
    "progressbar": "leave it out: it changes nothing",
}
DATA = "needs a pass over data before training"
TOKENS = "needs token ids that a task does not give"
REFUSED_OPTIONS = {  # (option, value): why it can't be trained here; None stands for every value
    ("init_lora_weights", "eva"): DATA,
    ("init_lora_weights", "corda"): DATA,
    ("init_lora_weights", "lora_ga"): DATA,
    ("init_lora_weights", "loftq"): "starts from a quantised copy of the model: see `qlora`",
    ("use_asa", "true"): "needs a call of its own after each step (update_and_allocate)",
    ("alora_invocation_tokens", None): TOKENS,
    ("trainable_token_indices", None): TOKENS,
    ("layer_replication", None): "makes another model, with more layers",
}


def _also(name: str) -> Mapping[str, str] | None:
    """`peft-boft`, or a folder with an adapter, written with a separator as in `./my-adapter`."""
    if name.startswith("peft-") and len(name) > 5:
        return {"type": name[5:].replace("-", "_").upper()}
    if (os.sep in name or "/" in name) and (expanded(name, "method") / "adapter_config.json").is_file():
        return {"path": name}
    return None


@method(
    "peft",
    claims=Claims(exact_base=True),
    preset=Preset(2e-3, source="a guess, not tuned; some tuners have one of their own"),
    also=_also,
    facts=Facts("the tuner's", count="the tuner's", paper="", stored="what the PEFT library stores"),
)
@dataclass(frozen=True)
class Peft:
    """A tuner of the PEFT library, by its type and its options, or from a saved adapter."""

    type: str = ""
    path: str = field(default="", metadata={"file": True})
    targets: str = ""  # roles; empty: the usual ones of the tuner
    options: tuple[tuple[str, str], ...] = field(default=(), metadata={"rest": True})

    def __post_init__(self) -> None:
        if self.type and self.path:
            raise UsageError("peft takes a type or a path: a saved adapter says its type itself")
        if not self.type and not self.path:
            raise UsageError(
                "peft: say which tuner, as in peft:type=BOFT, peft-boft or a saved adapter's folder"
            )
        object.__setattr__(self, "type", self.type.replace("-", "_").upper())
        if self.path:
            self._read_path()
        elif self.type:
            self._check_type(self.type)
            if self.targets and not self.tuner.targets:
                raise UsageError(f"peft:type={self.type} has no targets: leave them out")
            if not self.refusal:
                self.config()  # its errors are the command's

    def _read_path(self) -> None:
        if self.options or self.targets:
            raise UsageError("peft: a saved adapter has its options and targets; give the path alone")
        self._check_type(str(self._checkpoint.config.get("peft_type")))
        folder = expanded(self.path, "path")
        if folder.is_dir():  # a hub id stays what it is
            object.__setattr__(self, "path", str(folder.resolve()))

    @property
    def _checkpoint(self) -> Checkpoint:
        return Checkpoint(adapter_folder(self.path))

    @staticmethod
    def _check_type(name: str) -> None:
        peft = library()
        known = [kind.value for kind in peft.mapping.PEFT_TYPE_TO_TUNER_MAPPING]
        if name not in known:
            raise unknown("type of the PEFT library", name, known, "peft:type=NAME")

    @property
    def kind(self) -> str:
        """The PeftType, from the folder where there is one."""
        return self.type or str(self._checkpoint.config["peft_type"])

    @property
    def tuner(self) -> Tuner:
        """What is known of the tuner."""
        return TUNERS.get(self.kind, NOT_SEEN)

    @property
    def refusal(self) -> str:
        """Why it can't be trained here, if it can't."""
        if self.tuner.refusal:
            return f"the PEFT library's {self.kind} is not trained here: {self.tuner.refusal}"
        for name, text in self.options:
            for value in (text.lower(), None):
                if (name, value) in REFUSED_OPTIONS:
                    return f"the PEFT library's {self.kind} with {name}={text} {REFUSED_OPTIONS[name, value]}"
        return ""

    def declares(self, declared: MethodDeclaration) -> MethodDeclaration:
        """Claims and learning rate of this tuner. Starting from elsewhere, it claims nothing of its start."""
        known = self.tuner
        usual = not self.path and not any(name.startswith(("init", "ab_svd")) for name, _ in self.options)
        fresh = usual and not self.refusal
        claims = Claims(
            identity_at_init=known.identity and fresh,
            mergeable=known.merges and not self.refusal,
            exact_base=True,
            random_init=known.random and fresh,
        )
        preset = Preset(known.learning_rate, source="a guess, not tuned")
        return dataclasses.replace(declared, claims=claims, preset=preset)

    def fingerprint(self) -> str:
        """Of the saved adapter that it goes on from."""
        return self._checkpoint.fingerprint() if self.path else ""

    def config(self) -> Any:
        """A fresh config of the library with this tuner's options; targets are still to come.

        Raises:
            UsageError: an option does not exist or does not parse, or the library refuses it.
        """
        peft = library()
        with quiet() as heard:
            made_by = peft.mapping.PEFT_TYPE_TO_CONFIG_MAPPING[self.kind]
            known = fields_of(made_by)
            given: dict[str, Any] = {"progressbar": False} if "progressbar" in known else {}
            for name, text in self.options:
                if name in OURS:
                    raise UsageError(f"peft:type={self.kind}: {name} is not an option here; {OURS[name]}")
                if name not in known:
                    choices = [one for one in known if one not in OURS]
                    raise unknown(f"option of {self.kind}:", name, choices, f"fields of {made_by.__name__}")
                given[name] = convert(text, known[name], f"peft:type={self.kind}: {name}")
            try:
                config = made_by(**given)
            except (ValueError, TypeError, ImportError) as error:
                raise UsageError(f"peft:type={self.kind}: {error}") from error
        names = [name for name, _ in self.options]
        check_needs(config, names, f"peft:type={self.kind}")
        try:
            check_heard([str(one.message) for one in heard], names)
        except NotSupported as error:
            raise UsageError(f"peft:type={self.kind}: {error}") from error
        return config

    def inject(self, model: nn.Module) -> Adaptation:
        known = self.tuner
        if self.refusal:
            raise NotSupported(self.refusal)
        if self.path:
            return self._checkpoint.inject(model, known.merges)
        config = self.config()
        targets = self.targets or known.targets
        if config.is_adaption_prompt:
            layers = len({site.layer for site in sites(model, "attention")})
            config.adapter_len = config.adapter_len or 10
            config.adapter_layers = config.adapter_layers or layers
        elif targets:
            places = sites(model, targets)
            forward = [site.name for site in places if site.role.startswith("ffn")]
            set_targets(config, model, list(dict.fromkeys(site.name for site in places)), forward)
        check_names(config, model)
        adaptation = inject_tuner(model, config, known.merges)
        check_heard(adaptation.warned, [name for name, _ in self.options])
        return adaptation

    def to_peft(self, adaptation: Adaptation) -> PeftExport:
        """As the library itself would save it."""
        return exported(adaptation)
