"""What `peftbench compare A B C ...` prints: versions, machines or commits side by side, each against the first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ..tables.gate import change_of
from ..tables.pairs import Pair, Paired, PairedFigure
from ..tables.titles import title_of
from .columns import MISSING, Cell, in_brackets
from .markdown import pipe_table, plain_text
from .pairs import notes_of, value_of

HOW_TO_READ = (
    "Each store is compared with the first one: over the seeds that both have, the value and its change with a 95 % interval; p is Holm-corrected over the rows of one store. "
    "Costs of several sessions or machines differ by more than any interval here includes."
)
Place = tuple[str, str, int | None]


def over_time_text(compared: Mapping[str, Paired], first: str) -> str:
    """A table for each model, task and figure: the first store's value, then that of each other one with its change.

    Args:
        compared: by name of the store, in the order in which they are shown, with the first one as A.
    """
    lines = [plain_text(f"### {', '.join(compared)} against {first}"), ""]
    for place in dict.fromkeys(_place(pair) for paired in compared.values() for pair in paired.pairs):
        rows: dict[str, dict[str, Pair]] = {}
        for name, paired in compared.items():
            for pair in paired.pairs:
                if _place(pair) == place:
                    rows.setdefault(pair.name, {})[name] = pair
        task, model, items = place
        lines += [plain_text(f"**{title_of(task, items, model)}**"), ""]
        labels = dict.fromkeys(
            figure.label for row in rows.values() for pair in row.values() for figure in pair.figures
        )
        same = [label for label in labels if _is_same(label, rows)]
        for label in labels:
            if label not in same:
                lines += [_table(label, rows, list(compared), first), ""]
        if same:
            lines += [plain_text(f"The same in all of them: {', '.join(same)}."), ""]
    lines.append(f"- {plain_text(HOW_TO_READ)}")
    for name, paired in compared.items():
        lines += [f"- {plain_text(f'{name}: {note}')}" for note in notes_of(paired)]
    return "\n".join(lines) + "\n"


def _place(pair: Pair) -> Place:
    return pair.task, pair.model, pair.train_items


def _table(label: str, rows: Mapping[str, Mapping[str, Pair]], names: Sequence[str], first: str) -> str:
    body = []
    for method, pairs in rows.items():
        figures = {name: _figure(pair, label) for name, pair in pairs.items()}
        known = next((figure for figure in figures.values() if figure is not None), None)
        if known is None:
            continue
        a = _shown(known, "a")
        line = [method, a]
        for name in names:
            if (figure := figures.get(name)) is None:
                line.append(MISSING)
                continue
            # Of the seeds that both have, which may be others than those of the first column.
            since = "" if _shown(figure, "a") == a else f" from {_shown(figure, 'a')}"
            line.append(
                f"{_shown(figure, 'b')}, {change_of(figure)}{since}{in_brackets(_p_of(pairs[name], label))}"
            )
        body.append([Cell(text) for text in line])
    unit = next(
        (f" {pair.unit}" for row in rows.values() for pair in row.values() if pair.metric == label), ""
    )
    return pipe_table([f"{label}{unit}", first, *names], body)


def _is_same(label: str, rows: Mapping[str, Mapping[str, Pair]]) -> bool:
    figures = [_figure(pair, label) for pairs in rows.values() for pair in pairs.values()]
    return all(figure is None or (figure.relative and figure.a == figure.b) for figure in figures)


def _shown(figure: PairedFigure, side: str) -> str:
    if not figure.relative:
        return value_of(figure, side)
    value = figure.a if side == "a" else figure.b
    return f"{value:,.0f}" if value >= 1_000 else f"{value:.3g}"


def _figure(pair: Pair, label: str) -> PairedFigure | None:
    return next((figure for figure in pair.figures if figure.label == label), None)


def _p_of(pair: Pair, label: str) -> float | None:
    return pair.p_holm if label == pair.metric else None
