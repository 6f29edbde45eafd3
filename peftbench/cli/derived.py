"""A command's signature, made from the declarations of its options: typer reads it like one that was written out."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from typing import Annotated, Any

import typer

from ..option import Option, in_panels
from ..option_types import FLAG, PATHS
from .completion import completer

CONTEXT = inspect.Parameter("context", inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=typer.Context)


def with_options(
    do: Callable[..., None], options: Iterable[Option], arguments: Iterable[inspect.Parameter] = ()
) -> Callable[..., None]:
    """The same command, taking these options. What was typed reaches it by their parameters, and each argument, typed or not."""
    arguments = list(arguments)
    always = {one.name for one in arguments}

    def command(context: typer.Context, **given: Any) -> None:
        do({name: value for name, value in given.items() if name in always or _is_typed(context, name)})

    parameters = [CONTEXT, *arguments] + [
        _parameter(one) for _, inside in in_panels(options) for one in inside
    ]
    command.__doc__ = do.__doc__
    command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    return command


def _is_typed(context: typer.Context, name: str) -> bool:
    source = context.get_parameter_source(name)
    return source is not None and source.name not in ("DEFAULT", "DEFAULT_MAP")


def _parameter(one: Option) -> inspect.Parameter:
    default: Any = one.shown_default
    annotation: Any = str if default is not None else str | None
    spelling = one.flag
    metavar: str | None = "|".join(one.choices) or one.type.metavar
    if one.type is FLAG:
        annotation, metavar = bool, None
        spelling += f"/--no-{one.name}" if default else ""
    elif one.type is PATHS:
        annotation, default = list[str], []
    elif default is not None:
        default = str(default)
    declared = typer.Option(
        spelling,
        help=one.help,
        metavar=metavar,
        rich_help_panel=one.panel,
        show_default=default not in (None, False, []),
        autocompletion=completer(one),
    )
    return inspect.Parameter(
        one.parameter,
        inspect.Parameter.KEYWORD_ONLY,
        default=default,
        annotation=Annotated[annotation, declared],
    )
