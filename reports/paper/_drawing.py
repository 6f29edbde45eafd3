"""The experiments' pictures: panels of heat maps, and lines, as SVG."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from peftbench.stats.estimate import Estimate

COLOURS = (
    "#0072B2",
    "#D55E00",
    "#009E73",
    "#CC79A7",
    "#E69F00",
    "#56B4E9",
    "#7f7f7f",
    "#8C6D31",
)  # Okabe and Ito's


@dataclass(frozen=True)
class Panel:
    """One heat map; nan is left blank."""

    title: str
    values: npt.NDArray[np.float64]  # (y, x)
    x_ticks: tuple[str, ...]
    y_ticks: tuple[str, ...]
    x_label: str = ""
    y_label: str = ""
    printed: str | None = None  # a format of the values, written into the cells; None: not


def heat_maps(
    lines: Sequence[Sequence[Panel]],
    low: float,
    high: float,
    colours: str,
    bar_label: str,
    panel_inches: float = 2.6,
) -> str:
    """Lines of panels with one scale of colours."""

    def draw(figure: Any) -> None:
        grid = figure.subplots(len(lines), max(len(line) for line in lines), squeeze=False)
        shown = None
        for axes_line, line in zip(grid, lines, strict=True):
            for axes in axes_line[len(line) :]:
                axes.set_visible(False)
            for axes, panel in zip(axes_line, line, strict=False):
                shown = axes.imshow(
                    panel.values,
                    vmin=low,
                    vmax=high,
                    cmap=colours,
                    origin="upper",
                    aspect="auto",
                    interpolation="nearest",
                )
                axes.set_title(panel.title, fontsize=8)
                axes.set_xlabel(panel.x_label, fontsize=8)
                axes.set_ylabel(panel.y_label, fontsize=8)
                _ticks(axes.set_xticks, panel.x_ticks)
                _ticks(axes.set_yticks, panel.y_ticks)
                if panel.printed is not None:
                    _write_values(axes, panel, low, high)
        figure.colorbar(shown, ax=grid, shrink=0.8, label=bar_label)

    return _svg((panel_inches * max(len(line) for line in lines) + 1.2, panel_inches * len(lines)), draw)


def _ticks(place: Callable[..., object], names: tuple[str, ...]) -> None:
    """At most a dozen, evenly spread."""
    chosen = range(0, len(names), -(-len(names) // 12))
    place(list(chosen), [names[i] for i in chosen], fontsize=7)


def _write_values(axes: Any, panel: Panel, low: float, high: float) -> None:
    for (y, x), value in np.ndenumerate(panel.values):
        if not np.isnan(value):
            dark = (value - low) / (high - low) < 0.5
            text = format(value, panel.printed or "")
            axes.text(x, y, text, ha="center", va="center", fontsize=7, color="white" if dark else "black")


@dataclass(frozen=True)
class Line:
    """Points with their intervals, joined."""

    label: str
    x: tuple[float, ...]
    y: tuple[float, ...]
    half_width: tuple[float, ...] | None = None
    dashed: bool = False


def line(label: str, points: Sequence[tuple[float, Estimate]], percent: float, dashed: bool = False) -> Line:
    """Means with their 95 % intervals."""
    return Line(
        label,
        tuple(float(x) for x, _ in points),
        tuple(e.value * percent for _, e in points),
        tuple((e.half_width() or 0.0) * percent for _, e in points),
        dashed,
    )


@dataclass(frozen=True)
class Chart:
    """One panel of lines."""

    title: str
    x_label: str
    y_label: str
    lines: tuple[Line, ...]
    log_x: bool = False


def charts(panels: Sequence[Chart]) -> str:
    """Panels of lines side by side."""

    def draw(figure: Any) -> None:
        for axes, panel in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
            axes.grid(alpha=0.3)
            axes.spines[["top", "right"]].set_visible(False)
            if panel.log_x:
                axes.set_xscale("log")
            for i, line in enumerate(panel.lines):
                colour = COLOURS[i % len(COLOURS)]
                axes.errorbar(
                    line.x, line.y, yerr=line.half_width, label=line.label, color=colour, marker="o", markersize=4, capsize=2,
                    linewidth=1.2, linestyle="--" if line.dashed else "-",
                )  # fmt: skip
            axes.set_title(panel.title, fontsize=9)
            axes.set_xlabel(panel.x_label)
            axes.set_ylabel(panel.y_label)
            axes.legend(fontsize=7, frameon=False)

    return _svg((5.2 * len(panels), 3.8), draw)


def _svg(inches: tuple[float, float], draw: Callable[[Any], None]) -> str:
    """The same picture from the same values."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    with rc_context({"svg.hashsalt": "peftbench", "font.size": 9}):
        figure = Figure(figsize=inches, layout="constrained")
        draw(figure)
        made = io.BytesIO()
        figure.savefig(made, format="svg", metadata={"Date": None})
    return made.getvalue().decode("utf-8")
