"""The HTML page, in a real browser: it draws, sorts, filters, switches axes, opens a row's runs, and asks nobody for anything."""

from __future__ import annotations

import dataclasses
import json
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import pytest

from peftbench.plugins import registry
from peftbench.tables.table import Table

from ..support import results
from ..support.results import STRANGE, hostile

tables = results.tables  # the fixture

BROWSER = next((found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))), None)  # fmt: skip
DRIVER = shutil.which("chromedriver")
needs_a_browser = pytest.mark.skipif(
    not (BROWSER and DRIVER), reason="needs chromium and chromedriver (Debian: chromium, chromium-driver)"
)
Open = Callable[..., Any]


def page(tables: list[Table]) -> str:
    made: str = registry.get("report", "html").target(tables)
    return made


def content(text: str) -> dict[str, Any]:
    found = re.search(r'<script id="content" type="application/json">(.*?)</script>', text, re.DOTALL)
    assert found is not None
    made: dict[str, Any] = json.loads(found[1])
    return made


@pytest.fixture(scope="module")
def driver() -> Iterator[Any]:
    from selenium import webdriver
    from selenium.webdriver.chrome.options import Options
    from selenium.webdriver.chrome.service import Service

    options = Options()
    options.binary_location = BROWSER or ""
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--window-size=1300,1500"):  # fmt: skip
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    browser = webdriver.Chrome(options=options, service=Service(DRIVER or ""))
    yield browser
    browser.quit()


@pytest.fixture
def opened(driver: Any, tables: list[Table], tmp_path: Path) -> Iterator[Open]:
    """Opens a page from disk; afterwards nothing may have been asked of a network, or been said on the console."""

    from selenium.webdriver.support.ui import WebDriverWait

    def visit(made: list[Table] = tables, view: str = "theme=light") -> Any:
        file = tmp_path / "page.html"
        file.write_text(page(made), encoding="utf-8")
        driver.get("about:blank")  # another fragment alone would not load the page anew
        driver.get(f"file://{file}#{view}")
        drawn = "return Number(document.documentElement.dataset.drawnMs) > 0"
        WebDriverWait(driver, 30).until(lambda browser: browser.execute_script(drawn))
        return driver

    yield visit
    events = [json.loads(entry["message"])["message"] for entry in driver.get_log("performance")]
    asked = [e["params"]["request"]["url"] for e in events if e["method"] == "Network.requestWillBeSent"]
    assert asked and all(url.startswith(("file://", "data:", "blob:", "about:")) for url in asked), asked
    assert driver.get_log("browser") == []


def labels(browser: Any) -> list[str]:
    return [cell.text for cell in browser.find_elements("css selector", "tbody td:first-child")]


def choose(browser: Any, select: str, value: str) -> None:
    browser.find_element("css selector", f"#{select} option[value='{value}']").click()


def axis(browser: Any, name: str) -> str:
    found: str = browser.execute_script(
        f"return document.getElementById('pareto-plot').layout.{name}axis.title.text"
    )
    return found


@needs_a_browser
def test_it_draws_and_sorts_and_filters(opened: Open) -> None:
    browser = opened()
    assert browser.execute_script("return Number(document.documentElement.dataset.drawnMs)") > 0
    plots = browser.find_elements("css selector", "section:not([hidden]) .plot .main-svg")
    assert len(plots) >= 3 and browser.find_element("id", "caption").text.startswith("Quick budget")
    everyone = ["adapter", "lora", "prefix", "full (baseline)", "head (baseline)"]
    assert labels(browser) == everyone
    header = browser.find_element("xpath", "//th[text()='accuracy %']")
    header.click()
    assert labels(browser)[:3] == ["head (baseline)", "lora", "full (baseline)"]
    browser.find_element("xpath", "//th[text()='accuracy %']").click()
    assert labels(browser)[:3] == ["full (baseline)", "lora", "head (baseline)"]
    assert labels(browser)[3:] == ["adapter", "prefix"]  # without a figure, last either way
    assert browser.find_element("css selector", "th[aria-sort='descending']").text.startswith("accuracy")
    browser.find_element("id", "filter").send_keys("failed")
    assert labels(browser) == ["adapter"]
    browser.execute_script(
        "const f = document.getElementById('filter'); f.value = ''; f.dispatchEvent(new Event('input'))"
    )
    browser.find_element("id", "baselines").click()
    assert labels(browser) == ["lora", "adapter", "prefix"]


@needs_a_browser
def test_axes_columns_and_theme_are_chosen_and_the_link_shows_the_view_again(opened: Open) -> None:
    browser = opened()
    choose(browser, "x", "peak")
    choose(browser, "y", "stored")
    assert (axis(browser, "x"), axis(browser, "y")) == ("train peak, MB", "stored, kB")
    browser.find_element("css selector", "#comparison summary").click()
    browser.find_element("xpath", "//label[contains(., 'flops per step')]/input").click()
    assert "flops per step" in [th.text for th in browser.find_elements("css selector", "th")]
    browser.find_element("xpath", "//th[text()='trained']").click()
    browser.find_element("id", "theme").click()
    order, view = labels(browser), browser.current_url.partition("#")[2]
    asked = parse_qs(view)
    assert asked["x"] == ["peak"] and asked["theme"] == ["dark"] and asked["sort"] == ["trained"]
    again = opened(view=view)
    assert labels(again) == order and axis(again, "x") == "train peak, MB"
    assert "flops per step" in [th.text for th in again.find_elements("css selector", "th")]
    paper = again.execute_script("return getComputedStyle(document.body).backgroundColor")
    assert paper == "rgb(20, 24, 29)"  # dark


@needs_a_browser
def test_a_row_opens_its_runs(opened: Open) -> None:
    browser = opened()
    browser.find_element("xpath", "//td[text()='lora']").click()
    dialog = browser.find_element("id", "runs")
    assert dialog.is_displayed() and "seed 0: ok" in dialog.text and "merge: pass" in dialog.text
    assert "a processor" in dialog.text and "learning rate" in dialog.text
    assert dialog.find_elements("css selector", "#runs-plot .main-svg")
    dialog.find_element("css selector", "form button").click()
    assert not dialog.is_displayed() and "row=" not in browser.current_url
    browser.find_element("xpath", "//td[text()='adapter']").click()
    assert "OutOfMemoryError: too large (train at step 7)" in dialog.text


@needs_a_browser
def test_the_last_column_the_same_axes_and_strange_views_do_not_break_it(
    opened: Open, tables: list[Table]
) -> None:
    browser = opened(view="x=score&y=score&against=7&merged=both&t=99&row=nobody&sort=nothing")
    assert len(labels(browser)) == 5 and axis(browser, "x") == axis(browser, "y") == "accuracy, %"
    marks = browser.execute_script(
        "return document.getElementById('pareto-plot').data.slice(1).map((trace) => trace.marker.symbol)"
    )
    assert set(marks) == {"diamond-open"}  # no front of one measure
    assert opened(view="cols=").find_elements("css selector", "th") == []
    empty = opened([])
    assert "no comparison" in empty.find_element("id", "caption").text


@needs_a_browser
def test_labels_that_are_alike_once_cut_keep_their_own_bars(opened: Open, tables: list[Table]) -> None:
    long = "lora:" + "targets=query+key+value:" * 4
    rows = tuple(
        dataclasses.replace(row, label=f"{long}{i}", costs=tables[0].rows[1].costs)
        for i, row in enumerate(tables[0].rows)
    )
    browser = opened([dataclasses.replace(tables[0], rows=rows)])
    places = browser.execute_script("return document.getElementById('memory-plot').data[0].y")
    assert places == list(range(len(rows)))


@needs_a_browser
def test_it_fits_a_phone(opened: Open, driver: Any) -> None:
    driver.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride",
        {"width": 390, "height": 844, "deviceScaleFactor": 1, "mobile": True},
    )
    try:
        browser = opened()
        assert browser.execute_script("return document.documentElement.scrollWidth") <= 390
    finally:
        driver.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


@needs_a_browser
def test_strange_names_stay_text_in_the_browser(opened: Open, tables: list[Table]) -> None:
    browser = opened(hostile(tables))  # an alert would be an error of the driver
    assert "<script>alert(1)</script>" in labels(browser)[0]
    assert "<script>alert(1)</script>" in browser.find_element("id", "footnotes").text
    hover = browser.execute_script("return document.getElementById('pareto-plot').data[1].hovertemplate")
    assert "<script" not in hover and "&lt;script&gt;" in hover
    browser.find_element("css selector", "tbody td").click()
    assert "<script>alert(1)</script>" in browser.find_element("id", "runs").text


def test_it_holds_what_the_other_reports_say_and_nothing_that_a_browser_would_run(
    tables: list[Table],
) -> None:
    text = page(hostile(tables))
    found = content(text)
    assert found["tables"][0]["rows"][0]["label"] == STRANGE
    assert "<script>alert" not in text and text.count("</script>") == 3
    plain = content(page(tables))["tables"][0]
    by_name = {column["name"]: column for column in plain["columns"]}
    lora = [row["label"] for row in plain["rows"]].index("lora")
    assert by_name["score"]["cells"][lora][1] == pytest.approx(0.81) and by_name["score"]["shown"]
    assert not by_name["flops_per_step"]["shown"]
    measures = {measure["name"]: measure for measure in plain["measures"]}
    assert measures["score"]["values"][lora][0] == pytest.approx(81.0)
    assert measures["merged_1x8"]["values"][lora] == [0.0, 0.0, 0.0]
    assert plain["rows"][lora]["memory"]["activations"] == 95.0
    assert [plain["runs"][i]["seed"] for i in plain["rows"][lora]["runs"]] == [0, 1, 2]
    of_training = {row["label"]: plain["runs"][row["runs"][0]]["train_s"] for row in plain["rows"]}
    assert of_training == {"adapter": None, "full": 1.0, "head": 3.0, "lora": 1.0, "prefix": None}
    assert "http://" not in (Path(__file__).parents[2] / "reports/_page/page.js").read_text(encoding="utf-8")


def test_tables_that_differ_in_a_setting_have_titles_of_their_own(tables: list[Table]) -> None:
    long = dataclasses.replace(
        tables[0],
        setting=dataclasses.replace(
            tables[0].setting, budget=dataclasses.replace(tables[0].setting.budget, steps=500)
        ),
    )
    titles = [one["title"] for one in content(page([tables[0], long, tables[0]]))["tables"]]
    assert titles[0].endswith("steps 20") and titles[1].endswith("steps 500")


def test_a_curve_without_the_metric_has_its_likelihood_and_bad_bytes_break_nothing(
    tables: list[Table],
) -> None:
    """A model that writes is scored by its likelihood alone while it trains."""
    trained = next(record for record in tables[0].records if record.run.method == "lora")
    record = dataclasses.replace(
        trained, curve=[{"step": 5, "train_s": 1.0, "nll": 0.5}], reason="name \udc80"
    )
    found = content(page([dataclasses.replace(tables[0], records=(record,))]))
    assert found["tables"][0]["runs"][0]["curve"] == [[5, 1.0, 1500, None, 0.5]]
    page([dataclasses.replace(tables[0], records=(record,))]).encode()


def test_five_hundred_runs_stay_below_8_mb(tables: list[Table]) -> None:
    table = tables[0]
    many = [
        dataclasses.replace(table, records=table.records * (100 // len(table.records) + 1)) for _ in range(5)
    ]
    assert sum(len(one.records) for one in many) >= 500
    assert len(page(many).encode()) < 8e6
