"""Help as plain text, options in panels and examples below: typer's own panels import rich, which takes as long as all
the rest."""

from __future__ import annotations

from typing import Any

from typer.core import TyperCommand

from .examples import EXAMPLES


class PanelCommand(TyperCommand):
    """A command whose help has a heading for each panel of options, and examples."""

    def format_options(self, ctx: Any, formatter: Any) -> None:
        panels: dict[str, list[tuple[str, str]]] = {}
        for parameter in self.get_params(ctx):
            if (record := parameter.get_help_record(ctx)) is not None:
                panels.setdefault(_panel(parameter), []).append(record)
        for panel, records in panels.items():
            with formatter.section(panel):
                formatter.write_dl(records)

    def format_epilog(self, ctx: Any, formatter: Any) -> None:
        with formatter.section("Examples"):
            for command, why in EXAMPLES[self.name or ""]:
                formatter.write(f"  {command}\n      {why}\n")


def _panel(parameter: Any) -> str:
    if parameter.param_type_name == "argument":
        return "Arguments"
    return getattr(parameter, "rich_help_panel", None) or "Options"
