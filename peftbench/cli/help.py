"""Help as plain text, options in panels and examples below: typer's own panels import rich, which takes as long as all
the rest."""

from __future__ import annotations

from collections import Counter
from typing import Any

from typer.core import TyperCommand

from ..errors import UsageError
from .examples import EXAMPLES


class PanelCommand(TyperCommand):
    """A command whose help has a heading for each panel of options, and examples; each option acts, or is refused."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if not ctx.resilient_parsing:
            self._refuse_repeated(ctx, args)
        return super().parse_args(ctx, args)

    def _refuse_repeated(self, ctx: Any, args: list[str]) -> None:
        """Of an option that is given twice the library takes the last, and says nothing of the other.

        Raises:
            UsageError: there is one.
        """
        _, _, given = self.make_parser(ctx).parse_args(args=list(args))
        for option, times in Counter(one for one in given if one.param_type_name == "option").items():
            if times > 1 and not option.multiple:
                lists = "; several go into one, with commas" if ",..." in (option.metavar or "") else ""
                raise UsageError(
                    f"{option.opts[0]} is given {times} times, and once is read; give it once{lists}"
                )

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
