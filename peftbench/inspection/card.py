"""The card of an export: what a reader of the hub, and the hub itself, should know of a trained model."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ..data.hub import COMMIT
from ..records.record import Record
from ..records.results import Result
from ..records.runs import Run
from ..render.columns import text_rows
from ..render.markdown import pipe_table, plain_text
from ..tables.tabulate import tables_of

PIPELINES = {
    "sequence": "text-classification",
    "causal": "text-generation",
    "seq2seq": "text2text-generation",
}


@dataclass(frozen=True)
class Base:
    """The model that an adapter belongs to, as another program finds it."""

    name: str  # a hub id, a folder, or a starter of this program
    revision: str | None  # its commit on the hub
    folder: Path  # where its files are here
    is_starter: bool

    @property
    def arguments(self) -> str:
        """What `from_pretrained` is given first, in Python."""
        if self.is_starter:
            return f"resolve_model({self.name!r}).location"
        if self.is_gguf:
            return f"{str(Path(self.name).parent)!r}, gguf_file={Path(self.name).name!r}"
        return repr(self.name) if self.revision is None else f"{self.name!r}, revision={self.revision!r}"

    @property
    def is_gguf(self) -> bool:
        """Whether it is a GGUF file."""
        return Path(self.name).suffix == ".gguf"

    @property
    def license(self) -> str | None:
        """What the base's own card says."""
        from huggingface_hub import ModelCard

        card = self.folder / "README.md"
        if not card.is_file():
            return None
        try:
            found = ModelCard.load(card, ignore_metadata_errors=True).data.license
        except (ValueError, OSError):  # a card that the hub would not take either
            return None
        return found if isinstance(found, str) else None


def base_of(run: Run) -> Base:
    """The base of a run's model."""
    from ..models.resolve import resolve_model
    from ..models.starters import STARTERS

    source = resolve_model(run.model)
    folder = Path(source.location)
    if run.model in STARTERS:
        return Base(run.model, None, folder, is_starter=True)
    if COMMIT.match(source.revision):
        return Base(run.model.partition("@")[0], source.revision[:40], folder, is_starter=False)
    typed = Path(run.model).expanduser()
    return Base(str(folder if typed.is_dir() else typed.resolve()), None, folder, is_starter=False)


def card(
    record: Record, folder: Path, step: int | None, base: Base, kind: str, code: Sequence[str], beside: str
) -> str:
    """A README.md with the metadata that the hub reads.

    Args:
        folder: of the run, for its row in a table.
        step: after which the weights are, if not at the end.
        kind: what the model does, one of `PIPELINES`.
        code: the lines that load it.
        beside: what they do not load.
    """
    from huggingface_hub import ModelCardData

    run = record.run
    data = [name.removeprefix("datasets/") for name in run.commits if name.startswith("datasets/")]
    metadata = ModelCardData(
        base_model=None if base.revision is None else base.name,
        library_name="peft" if any("PeftModel" in line for line in code) else "transformers",
        license=base.license,
        datasets=[name.partition("@")[0] for name in data] or None,
        metrics=[str(record.metric["name"])] if record.metric else None,
        pipeline_tag=PIPELINES[kind],
        tags=["peftbench", run.method.partition(":")[0]],
    )
    at = "" if base.revision is None else f" at {base.revision}"
    read = "".join(f", {name} at {commit}" for name, commit in run.commits.items())
    lines = [
        "---",
        metadata.to_yaml(),
        "---",
        "",
        plain_text(
            f"# {_shown(run.method)} on {_shown(run.model)}, task {_shown(run.task)}, seed {run.seed}"
        ),
        "",
        f"Exported by peftbench from run {record.key}. The base is {_shown(base.name)}{at}{read}.",
        "",
        *_said_of(step, record),
        *_row(record, folder),
        "```python",
        *code,
        "```",
        "",
        beside,
        "",
    ]
    return "\n".join(lines)


def _said_of(step: int | None, record: Record) -> list[str]:
    """That the figures are not of these weights."""
    if step is None:
        return []
    steps = len((record.training or {})["step_s"])
    return [f"**The weights are those after step {step:,} of {steps:,}. The table is of the run's end.**", ""]


def _row(record: Record, folder: Path) -> list[str]:
    """The run's row in a table of its own, with what a reader must know of it."""
    if record.quality is None:
        return []
    lines: list[str] = []
    for table in tables_of([Result(record, folder)]):
        headers, body = text_rows(table)
        notes = [plain_text(f"- {_shown(note)}") for note in table.footnotes]
        lines += [plain_text(table.caption), "", _shown(pipe_table(headers, body)), "", *notes, ""]
    return lines


def _shown(text: str) -> str:
    """Without the folders of this machine: of each whole path its last part. Names of the hub keep their owner."""
    return re.sub(r"(?<![\w.])(?:~|\.{1,2})?/[^\s:='\"]*?([^/\s:='\"]+)(?=[\s:='\",]|$)", r"\1", text)
