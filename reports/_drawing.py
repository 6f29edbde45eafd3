"""The still pictures: quality against memory with its front, against trained numbers (Hu et al. 2021, Figure 2), and latency as bars."""

from __future__ import annotations

import io
import math
import warnings
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from peftbench.tables.axes import Axis, Value, axes_of
from peftbench.tables.pareto import MAYBE, OFF, SURELY, front
from peftbench.tables.quantities import PICTURE, SCORE, measures_in
from peftbench.tables.table import Table
from peftbench.tables.titles import titles_of

# Okabe and Ito's, told apart by readers who see fewer colours; without its yellow, which is pale on paper.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#7f7f7f", "#8C6D31", "#6A3D9A")
PANEL_INCHES = (5.2, 4.0)
MARKS: dict[str | None, dict[str, Any]] = {
    SURELY: {"marker": "o"},
    MAYBE: {"marker": "o", "markerfacecolor": "white"},
    OFF: {"marker": "x"},
    None: {"marker": "D", "markerfacecolor": "white"},  # not judged
}
LONGEST = 40  # of a name in a picture
Panel = Callable[
    [Table, Any], bool
]  # draws a table on axes; without axes, only whether there is something to draw


def picture(tables: Sequence[Table], form: str) -> bytes:
    """All tables, a line of panels each; a panel that has nothing to show is left out.

    Args:
        form: "png" or "svg".
    """
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    known = _panels()
    panels = [
        (table, title, [draw for draw in known if draw(table, None)])
        for table, title in zip((table.as_shown for table in tables), titles_of(tables), strict=True)
    ]
    lines = [(table, title, draws) for table, title, draws in panels if draws]
    across = max((len(draws) for _, _, draws in lines), default=1)
    width, height = PANEL_INCHES
    with (
        rc_context({"svg.hashsalt": "peftbench", "font.size": 9}),  # the same picture from the same results
        warnings.catch_warnings(),
    ):
        warnings.filterwarnings(
            "ignore", "Glyph .* missing from font"
        )  # a name may be in any script; it is a box then
        figure = Figure(figsize=(width * across, height * max(1, len(lines))), layout="constrained")
        grid = figure.subplots(max(1, len(lines)), across, squeeze=False)
        for axes in grid.flat:
            axes.set_visible(False)
        for line, (table, title, draws) in zip(grid, lines, strict=False):
            for axes, draw in zip(line, draws, strict=False):
                axes.set_visible(True)
                axes.grid(alpha=0.3)
                axes.spines[["top", "right"]].set_visible(False)
                draw(table, axes)
                axes.set_title(f"{_name(title, 70)}\n{_name(table.caption, 90)}", fontsize=8)
        made = io.BytesIO()
        figure.savefig(
            made, format=form, dpi=200, metadata={"Date": None} if form == "svg" else {"Software": None}
        )
    return made.getvalue()


def _against(table: Table, axes: Any, name: str) -> bool:
    """The primary metric against another measure, with intervals on both axes and the front."""
    found = {axis.name: axis for axis in axes_of(table)}
    x, y = found.get(name), found.get(SCORE)
    if x is None or y is None:
        return False
    if axes is None:
        return True
    points = [
        (i, a, b) for i, (a, b) in enumerate(zip(x.values, y.values, strict=True)) if a is not None and b is not None
    ]  # fmt: skip
    untrained = [i for i, a, _ in points if x.log and a.value <= 0]
    points = [point for point in points if point[0] not in untrained]
    if x.log and points:
        axes.set_xscale("log")
    for i in untrained:  # have no place on a logarithmic axis, and are a line beside it
        value = y.values[i]
        assert value is not None
        axes.axhline(value.value, color="#7f7f7f", linewidth=0.8, linestyle=":")
    on_front = front(table, x, y)
    for i, a, b in points:
        colour = COLOURS[i % len(COLOURS)]
        axes.errorbar(a.value, b.value, xerr=_bars(a), yerr=_bars(b), color=colour, markersize=7, markeredgewidth=1.5,
                      linewidth=1, capsize=2, **MARKS[on_front[i]])  # fmt: skip
        below = _has_one_above(i, points, log=axes.get_xscale() == "log")
        axes.annotate(
            _name(table.rows[i].label, LONGEST),
            (a.value, b.value),
            (6, -11 if below else 5),
            textcoords="offset points",
            fontsize=8,
        )
    for i in untrained:
        value = y.values[i]
        assert value is not None
        axes.annotate(f"{_name(table.rows[i].label, LONGEST)}: 0", (0.5, value.value), (0, 2), xycoords=("axes fraction", "data"),
                      textcoords="offset points", fontsize=8, color="#555555", ha="center")  # fmt: skip
    axes.text(0.01, 0.01, "filled: surely on the Pareto front, open: maybe, ×: not, ◇: not judged", transform=axes.transAxes, fontsize=7, color="#555555")  # fmt: skip
    axes.set_xlabel(_name(x.label, 80))
    axes.set_ylabel(_name(y.label, 60))
    axes.margins(0.12)
    return True


def _has_one_above(i: int, points: Sequence[tuple[int, Value, Value]], log: bool) -> bool:
    """Whether the label of a point would run into a neighbour that stands a little higher."""

    def across(value: Value) -> float:
        return math.log(value.value) if log else value.value

    xs, ys = [across(a) for _, a, _ in points], [b.value for _, _, b in points]
    wide, high = max(xs) - min(xs) or 1.0, max(ys) - min(ys) or 1.0
    own = next((x, y) for (j, _, _), x, y in zip(points, xs, ys, strict=True) if j == i)
    return any(
        j != i and abs(x - own[0]) < 0.2 * wide and 0 <= y - own[1] < 0.15 * high
        for (j, _, _), x, y in zip(points, xs, ys, strict=True)
    )


def _latency(table: Table, axes: Any) -> bool:
    """Slow-down over the base: a group of bars a cell, filled unmerged, hatched merged."""
    cells = [a for a in axes_of(table) if a.name.startswith(("unmerged_", "merged_"))]
    if not cells:
        return False
    if axes is None:
        return True
    places = list(dict.fromkeys(m.name.partition("_")[2] for m in cells))
    bars = [
        (i, kind) for i, row in enumerate(table.rows) for kind in ("unmerged", "merged")
        if row.costs.latency and any(m.name.startswith(f"{kind}_") and m.values[i] is not None for m in cells)
    ]  # fmt: skip
    width = 0.8 / max(1, len(bars))
    by_name: dict[str, Axis] = {m.name: m for m in cells}
    for k, (i, kind) in enumerate(bars):
        heights = [
            (p, v)
            for p, place in enumerate(places)
            if (m := by_name.get(f"{kind}_{place}")) and (v := m.values[i])
        ]
        at = [p + (k - (len(bars) - 1) / 2) * width for p, _ in heights]
        errors = [[_bars(v)[end][0] for _, v in heights] for end in (0, 1)]
        name = _name(table.rows[i].label, LONGEST) + (" merged" if kind == "merged" else "")
        axes.bar(at, [v.value for _, v in heights], width, yerr=errors, capsize=2, label=name, color=COLOURS[i % len(COLOURS)],
                 hatch="///" if kind == "merged" else None, edgecolor="white", linewidth=0.5, error_kw={"linewidth": 0.8})  # fmt: skip
    axes.axhline(0, color="black", linewidth=0.8)
    axes.set_xticks(range(len(places)), places)
    axes.set_xlabel("batch x length")
    axes.set_ylabel("slow-down over the base, %")
    axes.legend(fontsize=7, frameon=False)
    return True


def _bars(value: Value) -> list[list[float]]:
    if value.low is None or value.high is None:
        return [[0.0], [0.0]]
    return [[value.value - value.low], [value.high - value.value]]


def _name(text: str, longest: int) -> str:
    """As text: matplotlib takes what stands between dollar signs for formulas."""
    visible = "".join(char for char in " ".join(text.split()) if char.isprintable())
    short = visible if len(visible) <= longest else visible[: longest - 1] + "…"
    return short.replace("$", r"\$")


def _panels() -> list[Panel]:
    """Quality against memory, against trained numbers and what else is declared for a picture; latency last."""
    return [*(partial(_against, name=measure.name) for measure in reversed(measures_in(PICTURE))), _latency]
