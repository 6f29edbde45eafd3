"""What reports of many runs take: seconds, memory, the page's size, and how soon a browser has drawn it.

    python benchmarks/report_sizes.py [--runs 500,10000] [--like STORE]

Goals: 500 runs make a page below 8 MB that draws within 2 seconds; 10,000 runs report in below 10 seconds and 1 GB. A store of so many runs is made by copying the
runs of one of 3 seeds and 5 methods, or of `--like`, under other task names, so that records and predictions are of real size.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil

from peftbench.records.record import Record
from peftbench.records.store import RECORD, WEIGHTS, Store


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--runs", default="500,10000")
    parser.add_argument("--like", type=Path, help="a store to copy")
    asked = parser.parse_args()
    print("| runs | format | seconds | peak MB | file MB | drawn after ms |")
    print("|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as scratch:
        like = asked.like or made(Path(scratch) / "like")
        for count in (int(text) for text in asked.runs.split(",")):
            store = Path(scratch) / f"{count}"
            fill(like, store, count)
            for form in ("markdown", "html"):
                out = Path(scratch) / f"{count}.{form}"
                seconds, peak = report(store, form, out)
                drawn = f"{drawn_ms(out):,.0f}" if form == "html" else "–"
                print(f"| {count:,} | {form} | {seconds:.1f} | {peak:,.0f} | {out.stat().st_size / 1e6:.1f} | {drawn} |", flush=True)  # fmt: skip
            shutil.rmtree(store)


def made(store: Path) -> Path:
    """A small real store."""
    command = ["run", "--model", "tiny-encoder", "--task", "synthetic", "--steps", "60", "--latency-grid", "none", "--curve", "4", "--store", str(store), "--quiet"]  # fmt: skip
    subprocess.run([sys.executable, "-m", "peftbench", *command], check=True, stdout=subprocess.DEVNULL)
    return store


def fill(like: Path, store: Path, count: int) -> None:
    """Copy the store's training runs under other tasks until there are so many."""
    runs = [one for one in Store(like).all() if one.record.run.kind == "training"]
    for i in range(count):
        one = runs[i % len(runs)]
        run = dataclasses.replace(one.record.run, task=f"task-{i // len(runs)}")
        folder = store / run.key / "0001"
        shutil.copytree(one.folder, folder, copy_function=copied)
        files = {name: known for name, known in one.record.files.items() if (folder / name).is_file()}
        record = dataclasses.replace(one.record, run=run, key=run.key, files=files)
        (folder / RECORD).write_text(Record.to_text(record), encoding="utf-8")


def copied(source: str, target: str) -> None:
    """Weights are linked, so that thousands of runs fit on a disk."""
    (os.link if source.endswith(WEIGHTS) else shutil.copy2)(source, target)


def report(store: Path, form: str, out: Path) -> tuple[float, float]:
    """Seconds, the middle of three; and, of one more run, as looking takes time, the peak in MB of what its processes hold,
    shared pages once."""
    command = [sys.executable, "-m", "peftbench", "report", "--store", str(store), "--format", form, "--out", str(out)]  # fmt: skip
    seconds = []
    for _ in range(3):
        begun = time.perf_counter()
        subprocess.run(command, check=True)
        seconds.append(time.perf_counter() - begun)
    process = subprocess.Popen(command)
    peak, root = 0, psutil.Process(process.pid)
    while process.poll() is None:
        with contextlib.suppress(psutil.Error):  # one that has ended in between
            peak = max(peak, sum(p.memory_full_info().pss for p in [root, *root.children()]))
        time.sleep(0.2)
    return sorted(seconds)[1], peak / 1e6


def drawn_ms(file: Path) -> float:
    """From the start of loading to the last plot, by the page's own clock; the middle of three."""
    from selenium import webdriver
    from selenium.webdriver.chrome.options import Options
    from selenium.webdriver.chrome.service import Service

    options = Options()
    options.binary_location = shutil.which("chromium") or ""
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"):
        options.add_argument(argument)
    browser = webdriver.Chrome(options=options, service=Service(shutil.which("chromedriver") or ""))
    found = []
    for _ in range(3):
        browser.get("about:blank")
        browser.get(f"file://{file}")
        found.append(float(browser.execute_script("return document.documentElement.dataset.drawnMs")))
    browser.quit()
    return sorted(found)[1]


if __name__ == "__main__":
    main()
