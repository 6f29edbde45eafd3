"""Still pictures: they open, are the same each time, hold what the tables hold, and take no name for a formula."""

from __future__ import annotations

import dataclasses
import io
from xml.etree import ElementTree

import numpy as np
import pytest
from matplotlib import image

from peftbench.plugins import registry
from peftbench.tables.table import Table

from ..support import results
from ..support.results import hostile

tables = results.tables  # the fixture


def made(tables: list[Table], form: str) -> str | bytes:
    found: str | bytes = registry.get("report", form).target(tables)
    return found


def test_a_png_opens_and_is_not_empty(tables: list[Table]) -> None:
    found = made(tables, "png")
    assert isinstance(found, bytes) and found.startswith(b"\x89PNG")
    pixels = image.imread(io.BytesIO(found))
    assert pixels.shape[0] == 800 and pixels.shape[1] == pytest.approx(3 * 5.2 * 200, abs=1)
    assert np.mean(pixels[..., :3] < 0.9) > 0.005


def test_an_svg_is_the_same_each_time_and_strange_names_stay_text(tables: list[Table]) -> None:
    once, again = made(tables, "svg"), made(tables, "svg")
    assert once == again and isinstance(once, str)
    ElementTree.fromstring(once)
    strange = made(hostile(tables), "svg")
    assert isinstance(strange, str) and "<script>" not in strange
    ElementTree.fromstring(strange)


def test_methods_that_train_nothing_have_a_picture_too(tables: list[Table]) -> None:
    rows = tuple(
        dataclasses.replace(
            row, costs=dataclasses.replace(row.costs, figures={**row.costs.figures, "trained": 0})
        )
        for row in tables[0].rows
    )
    assert made([dataclasses.replace(tables[0], rows=rows)], "png")


def test_a_panel_without_figures_is_left_out(tables: list[Table]) -> None:
    rows = tuple(
        dataclasses.replace(row, costs=dataclasses.replace(row.costs, latency=())) for row in tables[0].rows
    )
    found = made([dataclasses.replace(tables[0], rows=rows)], "png")
    assert isinstance(found, bytes)
    assert image.imread(io.BytesIO(found)).shape[1] == pytest.approx(2 * 5.2 * 200, abs=1)
    none = tuple(row for row in tables[0].rows if row.status != "ok")
    assert made([dataclasses.replace(tables[0], rows=none, records=())], "png")
