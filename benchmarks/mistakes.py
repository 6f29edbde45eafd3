"""What `peftbench check` says of methods with one honest mistake each: the table of docs/results/checks.md.

    python benchmarks/mistakes.py check now.json              # each plugin of tests/support/mistakes.py
    python benchmarks/mistakes.py table before.json now.json  # two such files as Markdown

`check` runs whatever release of peftbench is imported, so that an older one can be asked as well.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[1]))

from tests.support.mistake import IN_DECODERS
from tests.support.mistakes import MISTAKES

WIDEST = 150  # characters of what was said


def check(out: Path) -> None:
    """Write what fails of each mistake: {mistake: {check: what was seen first}}."""
    from peftbench.inspection import check_method

    families = check_method.MODELS
    found: dict[str, dict[str, str]] = {}
    for name, mistake in MISTAKES.items():
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / f"{name.replace('-', '_')}.py"
            file.write_text(mistake.source(name))
            check_method.MODELS = (
                families[1:2] if mistake.kind in IN_DECODERS else families[:1]
            )  # one shows it
            failed = [
                one for one in check_method.check_file(str(file), (), Path(folder)) if one.outcome == "fail"
            ]
        found[name] = {one.name: one.detail for one in reversed(failed)}
        out.write_text(json.dumps(found, indent=1))


def table(before: Path, now: Path) -> str:
    """Both as Markdown, a line a mistake."""
    then, since = (json.loads(file.read_text()) for file in (before, now))
    lines = ["| kind | mistake | before | now | what it says |", "|---|---|---|---|---|"]
    for name, mistake in MISTAKES.items():
        caught, was = since[name], then.get(name, {})
        shown = mistake.check if mistake.check in caught else next(iter(caught), "")
        said = caught.get(shown, "").replace("|", "/")
        said = said if len(said) <= WIDEST else said[:WIDEST] + " ..."
        others = ", ".join(sorted(set(caught) - {shown}))
        now_said = f"{shown}{f' ({others})' if others else ''}" if caught else "every claim holds"
        lines.append(
            f"| {mistake.kind} | {name} | {', '.join(sorted(was)) or 'every claim holds'} | {now_said} | {said} |"
        )
    caught_then, caught_now = (sum(bool(found.get(name)) for name in MISTAKES) for found in (then, since))
    return (
        "\n".join(lines)
        + f"\n\nFound before: {caught_then} of {len(MISTAKES)}; now: {caught_now} of {len(MISTAKES)}.\n"
    )


if __name__ == "__main__":
    if sys.argv[1] == "check":
        check(Path(sys.argv[2]))
    else:
        print(table(Path(sys.argv[2]), Path(sys.argv[3])), end="")
