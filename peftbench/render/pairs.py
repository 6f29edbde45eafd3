"""What `peftbench compare` prints: Markdown that reads well in a terminal and as a comment on a pull request."""

from __future__ import annotations

from collections.abc import Sequence

from ..errors import UsageError
from ..records.setting import PART, SOURCES
from ..tables.gate import FAILED, INCONCLUSIVE, PASSED, Verdict, change_of, out_of_scale
from ..tables.pairs import Pair, Paired, PairedFigure
from ..tables.titles import title_of
from .columns import MISSING, Cell, in_brackets
from .markdown import pipe_table, plain_text

HOW_TO_READ = (
    "B − A is paired by seed and test item, ± is its 95 % interval over both; p is Holm-corrected over all pairs. Costs: B over A, with an "
    "interval over cost runs (over seeds where one side has none), for inference times over processes. Two sessions on one machine may differ in speed, which no interval here "
    "includes; a slow-down is measured against the base of its own session."
)
SIGNS = {PASSED: "✔", FAILED: "✘", INCONCLUSIVE: "?"}


def check_comparable(paired: Paired, force: bool, a: str = "A", b: str = "B") -> None:
    """Whether there is something to compare, and nothing that forbids it.

    Args:
        a, b: what the two sets are called.

    Raises:
        UsageError: nothing pairs, or the two sets were measured under conditions that differ.
    """
    if not paired.pairs:
        has = (", ".join(names[:3]) or "no training run" for names in (paired.only_a, paired.only_b))
        said = "; ".join(f"{name} has {its}" for name, its in zip((a, b), has, strict=True))
        raise UsageError(f"no run of {a} has exactly one partner in {b} with its method, task, model and training items: {said}; keep what differs in other settings in other stores")  # fmt: skip
    if paired.unlike and not force:
        raise UsageError(f"{a} and {b} were not measured alike: {'; '.join(paired.unlike)}; --force compares them anyway")  # fmt: skip


def pairs_text(paired: Paired, verdicts: Sequence[Verdict], a: str, b: str) -> str:
    """The comparison, the verdicts first."""
    lines = [plain_text(f"### {b} against {a}"), ""]
    for verdict in verdicts:
        lines.append(plain_text(f"- {SIGNS[verdict.outcome]} **{verdict.limit.text}** {verdict.outcome}"))
        lines += ["  " + plain_text(f"- {reason}") for reason in verdict.reasons]
    if verdicts:
        lines.append("")
    by_place: dict[tuple[str, str, int | None], list[Pair]] = {}
    for pair in paired.pairs:
        by_place.setdefault((pair.task, pair.model, pair.train_items), []).append(pair)
    for (task, model, items), pairs in by_place.items():
        lines += [plain_text(f"**{title_of(task, items, model)}**"), "", _table(pairs), ""]
    lines += [f"- {plain_text(note)}" for note in (HOW_TO_READ, *notes_of(paired))]
    return "\n".join(lines) + "\n"


def _table(pairs: Sequence[Pair]) -> str:
    costs = list(dict.fromkeys(f.label for pair in pairs for f in pair.figures if f.relative))
    metric, unit = pairs[0].metric, f" {pairs[0].unit}" if pairs[0].unit else ""
    headers = ["method", "seeds", f"{metric}{unit} A", "B", "B − A (p)", "NLL", *costs]
    body = []
    for pair in pairs:
        by_label = {figure.label: figure for figure in pair.figures}
        score, nll = by_label.get(pair.metric), by_label.get("nll")
        line = [pair.name, _seeds(pair)]
        line += [
            _value(score, "a"),
            _value(score, "b"),
            MISSING if score is None else change_of(score) + in_brackets(pair.p_holm),
        ]
        line.append(MISSING if nll is None else change_of(nll))
        line += [MISSING if label not in by_label else change_of(by_label[label]) for label in costs]
        body.append([Cell(text) for text in line])
    return pipe_table(headers, body)


def _seeds(pair: Pair) -> str:
    if pair.seeds == pair.seeds_a == pair.seeds_b:
        return str(pair.seeds)
    return f"{pair.seeds} of {pair.seeds_a} and {pair.seeds_b}"


def _value(figure: PairedFigure | None, side: str) -> str:
    return MISSING if figure is None else value_of(figure, side)


def value_of(figure: PairedFigure, side: str) -> str:
    """What a figure is in A or in B ("a" or "b"), as it is shown."""
    value = (figure.a if side == "a" else figure.b) * figure.points
    if figure.points == 100:
        return f"{value:.1f}"
    return f"{value:.3g}" if out_of_scale(value) else f"{value:.3f}"


def notes_of(paired: Paired) -> list[str]:
    """What a reader must know of a comparison beside its figures."""
    notes = [f"{pair.label}: {pair.problem}" for pair in paired.pairs if pair.problem]
    if paired.unlike:
        unpaired = {SOURCES["task"], SOURCES["data"], PART} & set(paired.unlike)
        said = "; the items differ, so scores are not paired by seed and item" if unpaired else ""
        notes.append(f"compared with --force, although these differ: {'; '.join(paired.unlike)}{said}")
    if paired.also:
        notes.append(f"also different: {'; '.join(paired.also)}")
    for name, only in (("A", paired.gone), ("B", paired.only_b)):
        if only:
            notes.append(f"only in {name}: {', '.join(only)}")
    return notes
