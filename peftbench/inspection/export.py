"""What a run trained, as files that other programs read: the PEFT library's layout, or a plain transformers checkpoint.

A method says with `to_peft(adaptation)` how the PEFT library would write it. The core knows what is around it: the names
that modules have in a stock model, and the head, which goes into the same file where the stock model has one of that
shape, and into `head.safetensors` where the classifier is this program's own.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..data.peft_files import PeftExport
from ..errors import NotSupported, UsageError
from ..execution.restore import load_sources, own_prefix, rebuilt, where_it_was
from ..folders import drawn_folder, share
from ..records.record import Record
from ..records.runs import Run
from ..records.store import reason_unwritable
from ..render.markdown import plain_text
from .card import Base, base_of, card
from .outputs import name_labels, output_names, said_of_use

if TYPE_CHECKING:
    from ..execution.prepare import Prepared

TASK_TYPES = {"sequence": "SEQ_CLS", "causal": "CAUSAL_LM", "seq2seq": "SEQ_2_SEQ_LM"}  # of the PEFT library


def export(
    folder: Path, to: Path, merged: bool, step: int | None = None, plugins: Sequence[str] = ()
) -> list[str]:
    """Write what the run in `folder` trained; returns the names of the files.

    Args:
        step: after which step of the training, where its weights were saved; None: at the end.
        plugins: files and folders where the run's method is now, if it is not where it was.

    Raises:
        UsageError: the model or the method is not what it was, or has no such form.
    """
    record = Record.from_file(folder / "record.json")
    load_sources(record.run, plugins)
    with where_it_was(record.run), _aside(to) as out:
        prepared, base = rebuilt(record.run, folder, step), base_of(record.run)
        if merged:
            beside, code = _write_merged(record, prepared, out)
        else:
            beside, code = _write_adapter(record, prepared, base, out)
        prepared.tokenizer.save_pretrained(out)
        kind = _kind_of(prepared)
        said = "\n".join([beside, *map(plain_text, said_of_use(record.run, prepared.tokenizer))])
        (out / "README.md").write_text(card(record, folder, step, base, kind, code, said), encoding="utf-8")
        share(out)
        files = sorted(out.iterdir())
        to.mkdir(exist_ok=True)
        for file in files:
            file.rename(to / file.name)
    return [file.name for file in files]


@contextmanager
def _aside(to: Path) -> Iterator[Path]:
    """A folder for what is not finished, on the file system of `to`: inside it where it is there, as it may be mounted.

    Raises:
        UsageError: nothing can be written there.
    """
    home = to if to.is_dir() else to.parent
    try:
        home.mkdir(parents=True, exist_ok=True)
        aside = drawn_folder(home, f".{to.name}-")
    except OSError as error:
        raise UsageError(f"--to {str(to)!r} can't be written: {error.strerror}") from error
    try:
        yield aside
    except OSError as error:
        if reason_unwritable(error) is None:
            raise
        raise UsageError(f"--to {str(to)!r} can't be written: {reason_unwritable(error)}") from error
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _write_adapter(record: Record, prepared: Prepared, base: Base, out: Path) -> tuple[str, list[str]]:
    """Write an adapter's files; returns what must be said of its head, and the code that loads it."""
    from safetensors.torch import save_file

    from ..plugins import build

    run = record.run
    method, _ = build.build_method(run.method)
    to_peft = getattr(method, "to_peft", None)
    if to_peft is None:
        other = "; --merged writes a plain model" if _merges(prepared) else ""
        raise UsageError(f"{run.method!r} has no form in the PEFT library{other}")
    try:
        form: PeftExport = to_peft(prepared.adaptation)
    except NotSupported as error:
        other = "; --merged writes a plain model" if _merges(prepared) else ""
        raise UsageError(f"{run.method!r} has no form in the PEFT library: {error}{other}") from error
    own = own_prefix(prepared.adaptation.model)
    config = {
        **_stock_names(form.config, own),
        "inference_mode": True,
        "base_model_name_or_path": base.name,
        "revision": base.revision,
        "task_type": "FEATURE_EXTRACTION" if own else TASK_TYPES[_kind_of(prepared)],
    }
    tensors = {
        name.replace(f"base_model.model.{own}", "base_model.model.", 1): tensor.clone().contiguous()
        for name, tensor in form.tensors.items()
    }
    if not own:
        config["modules_to_save"] = _modules_of_head(prepared) or None
        tensors |= {f"base_model.model.{name}": p.detach() for name, p in prepared.head.items()}
    save_file(tensors, out / "adapter_model.safetensors", metadata={"format": "pt"})
    text = json.dumps(config, indent=2, sort_keys=True, default=_plain)
    (out / "adapter_config.json").write_text(text + "\n", encoding="utf-8")
    _save_own_head(prepared, own, out)
    class_, options = _class_of(prepared, own), _options(run, base, prepared, own)
    if form.quantisation is not None and (base.is_gguf or _was_quantised(record)):
        raise UsageError(
            f"{run.method!r} trained over codes of a base that is stored in codes itself, which transformers does not load so; train over "
            "the checkpoint that the base was made from"
        )
    if form.quantisation is not None:
        options += _over_codes(
            {**_stock_names(form.quantisation, own), "bnb_4bit_compute_dtype": run.dtype}, own
        )
    code = [
        "import transformers",
        "from peft import PeftModel",
        *(["from peftbench.models.resolve import resolve_model"] if base.is_starter else []),
        "",
        f"base = {class_}.from_pretrained({base.arguments}{options})",
        "model = PeftModel.from_pretrained(base, FOLDER)",
        "tokenizer = transformers.AutoTokenizer.from_pretrained(FOLDER)",
    ]
    return _said_of_head(prepared, own), code


def _write_merged(record: Record, prepared: Prepared, out: Path) -> tuple[str, list[str]]:
    """Write a plain model; returns what must be said of its head, and the code that loads it."""
    import transformers

    from ..models.resolve import config_of, resolve_model

    if not _merges(prepared):
        raise UsageError(f"{record.run.method!r} does not merge into plain layers; leave --merged out")
    own = own_prefix(prepared.adaptation.model)
    with prepared.adaptation.merged() as model:
        plain: Any = model.get_submodule(own.rstrip(".")) if own else model
        if not hasattr(transformers, type(plain).__name__):  # the encoder alone of an encoder-decoder
            raise UsageError(
                f"{record.run.method!r} trained a {type(plain).__name__}, which transformers does not load"
            )
        if hasattr(plain.config, "use_cache"):  # off while it was trained
            plain.config.use_cache = config_of(resolve_model(record.run.model)).get("use_cache", True)
        # Weights that were read as plain ones are written as such.
        plain.save_pretrained(out, **({"save_original_format": False} if _was_quantised(record) else {}))
    if prepared.head and not own:
        name_labels(plain.config, output_names(record.run), out / "config.json")
    _save_own_head(prepared, own, out)
    code = [
        "import transformers",
        "",
        f"model = {_class_of(prepared, own)}.from_pretrained(FOLDER)",
        "tokenizer = transformers.AutoTokenizer.from_pretrained(FOLDER)",
    ]
    return _said_of_head(prepared, own), code


def _merges(prepared: Prepared) -> bool:
    return prepared.claims.mergeable and prepared.adaptation.mergeable


def _stock_names(value: Any, own: str) -> Any:
    """A config with the names that modules have in a stock model."""
    if isinstance(value, str):
        return value.removeprefix(own)
    if isinstance(value, Mapping):
        return {_stock_names(key, own): _stock_names(item, own) for key, item in value.items()}
    if isinstance(value, list | tuple | set):
        return [_stock_names(item, own) for item in value]
    return value


def _modules_of_head(prepared: Prepared) -> list[str]:
    """The outermost modules of which every parameter belongs to the head."""
    head = {id(p) for p in prepared.head.values()}
    found: list[str] = []
    for name, module in prepared.adaptation.model.named_modules():
        parameters = list(module.parameters())
        whole = bool(parameters) and all(id(p) in head for p in parameters)
        if name and whole and not any(name.startswith(f"{outer}.") for outer in found):
            found.append(name)
    return found


def _save_own_head(prepared: Prepared, own: str, out: Path) -> None:
    from ..measure.parameters import save

    if own and prepared.head:
        save(prepared.head, out / "head.safetensors")


def _class_of(prepared: Prepared, own: str) -> str:
    return "transformers.AutoModel" if own else f"transformers.{type(prepared.adaptation.model).__name__}"


def _was_quantised(record: Record) -> bool:
    """Whether the run's checkpoint holds quantised weights, which a run reads as plain ones."""
    from ..models.quantised import plain_arguments
    from ..models.resolve import config_of, resolve_model

    return bool(plain_arguments(config_of(resolve_model(record.run.model))))


def _kind_of(prepared: Prepared) -> str:
    """What the trained model does: "causal" or "seq2seq" where it writes text, else "sequence"."""
    name = type(prepared.adaptation.model).__name__
    if name.endswith("ForConditionalGeneration"):
        return "seq2seq"
    return "causal" if name.endswith(("ForCausalLM", "LMHeadModel")) else "sequence"


def _options(run: Run, base: Base, prepared: Prepared, own: str) -> str:
    """What `from_pretrained` must be told to give the model that was trained: its outputs, its type, its padding."""
    from ..models.quantised import plain_arguments

    config: Any = prepared.adaptation.model.config
    file = base.folder / "config.json"
    known = json.loads(file.read_text(encoding="utf-8")).get("pad_token_id")
    options: dict[str, Any] = {"num_labels": config.num_labels} if not own and prepared.head else {}
    if options and _labels_of(base) != config.num_labels:  # a head of its own, of another size
        options["ignore_mismatched_sizes"] = True
    if known != config.pad_token_id and not own:
        options["pad_token_id"] = config.pad_token_id
    if plain := plain_arguments(
        json.loads(file.read_text(encoding="utf-8"))
    ):  # it was trained over plain weights
        options["quantization_config"] = (
            f"transformers.{type(plain['quantization_config']).__name__}(dequantize=True)"
        )
    return "".join(f", {name}={value}" for name, value in options.items()) + f", dtype={run.weights!r}"


def _over_codes(quantisation: dict[str, Any], own: str) -> str:
    """The option of `from_pretrained` for a base in codes."""
    if own:  # a pooler that the stock class adds, and nobody reads, has no weights to quantise
        quantisation["llm_int8_skip_modules"] = [*quantisation.get("llm_int8_skip_modules", ()), "pooler"]
    said = ", ".join(f"{name}={value!r}" for name, value in quantisation.items())
    return f", quantization_config=transformers.BitsAndBytesConfig({said})"


def _labels_of(base: Base) -> int:
    """How many labels the base's config has, or the library gives it."""
    import transformers

    return int(transformers.AutoConfig.from_pretrained(base.folder, local_files_only=True).num_labels)


def _said_of_head(prepared: Prepared, own: str) -> str:
    if own:
        return (
            "The classifier is not a class of transformers: its logits are `classifier.weight @ mean + classifier.bias` "
            "from `head.safetensors`, where `mean` is the mean of `last_hidden_state` over the tokens whose "
            "`attention_mask` is 1."
        )
    if prepared.head:
        return (
            f"The head ({', '.join(_modules_of_head(prepared))}) is in the same file and is loaded with it."
        )
    return "There is no head beside the model's own."


def _plain(value: Any) -> Any:
    """What JSON does not have: sets as sorted lists, the rest as text."""
    return sorted(value) if isinstance(value, set | frozenset) else str(value)
