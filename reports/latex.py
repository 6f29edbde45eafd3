"""LaTeX with booktabs: a document that compiles as it is, one table a comparison, from which the tables can be taken."""

from __future__ import annotations

from collections.abc import Sequence

from peftbench import report
from peftbench.render.columns import Cell, text_rows
from peftbench.render.trouble import trouble
from peftbench.tables.table import Table
from peftbench.tables.titles import titles_of

HEAD = r"""\documentclass{article}
\usepackage[T1]{fontenc}
\usepackage[utf8]{inputenc}
\usepackage[landscape,margin=1cm]{geometry}
\usepackage{booktabs}
\usepackage{graphicx}
\begin{document}
"""
SPECIAL = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"$<$", ">": r"$>$", "|": r"$|$", "±": r"$\pm$",
    "≈": r"$\approx$", "–": "--", "×": r"$\times$", "Δ": r"$\Delta$", "−": "$-$",
}  # fmt: skip
STRANGE = "?"  # what stands for a character that the fonts do not have


@report("latex", suffix=".tex")
def latex(tables: Sequence[Table]) -> str:
    """The document; its footnotes stand below each table."""
    titled = zip(tables, titles_of(tables), strict=True)
    return HEAD + "\n".join(_one(table, title) for table, title in titled) + "\\end{document}\n"


def _one(table: Table, title: str) -> str:
    headers, body = text_rows(table)
    lines = [
        r"\begin{table}[p]",
        r"\centering",
        r"\scriptsize",
        rf"\caption{{{escaped(f'{title}. {table.caption}')}}}",
    ]
    lines += [
        r"\resizebox{\textwidth}{!}{%",
        rf"\begin{{tabular}}{{l{'r' * (len(headers) - 1)}}}",
        r"\toprule",
        _row([Cell(header) for header in headers]),
        r"\midrule",
        *(_row(line) for line in body),
        r"\bottomrule",
        r"\end{tabular}}",
    ]
    notes = [f"{row.label} {trouble(row)}." for row in table.shown_rows if row.reason] + list(table.footnotes)
    if notes:
        lines += [r"\begin{itemize}\setlength\itemsep{0pt}"]
        lines += [rf"\item {escaped(note.replace('**', ''))}" for note in notes]
        lines += [r"\end{itemize}"]
    return "\n".join([*lines, r"\end{table}", r"\clearpage", ""])


def _row(cells: Sequence[Cell]) -> str:
    written = [rf"\textbf{{{escaped(cell.text)}}}" if cell.bold else escaped(cell.text) for cell in cells]
    return " & ".join(written) + r" \\"


def escaped(text: str) -> str:
    """Plain text, whatever is in it."""
    found = []
    for char in " ".join(text.split()):
        if char in SPECIAL:
            found.append(SPECIAL[char])
        elif char == "-" and found and found[-1].endswith("-"):  # two would be drawn as a range's dash
            found.append("{}-")
        elif " " <= char <= "~" or "\u00a1" <= char <= "\u017e":  # what T1 has: Latin letters with accents
            found.append(char)
        elif char.isprintable():
            found.append(STRANGE)
    return "".join(found)
