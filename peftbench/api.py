"""The same comparison from Python: `peftbench.run(methods=["lora", "adapter"])` returns a pandas DataFrame."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .comparison.compare import compare_all, planned_parts
from .comparison.dry_run import plan_rows
from .comparison.session import RUN_OPTIONS, Printed, Session
from .comparison.suite import Suite
from .engine.named import engine_named
from .engine.sweep import Execution
from .errors import UsageError
from .option import Option, options_of, read, refuse_unknown
from .records.store import Store
from .render.flat import flat_rows

if TYPE_CHECKING:
    import pandas as pd

IN_ORDER = ("methods", "model", "task")  # may be given by place


def run(*in_order: Any, **given: Any) -> pd.DataFrame:
    """Compare methods and return one row a method, units in the column names.

    Takes every option of `peftbench run` by its name, with underscores; what the command line writes as a list may be
    a list. What the store already holds is not run again. Needs no `if __name__ == "__main__"`.

    Raises:
        UsageError: an option is not there or its value is wrong, or something asked for does not exist; nothing was run.
    """
    import pandas as pd

    words = dict(_asked(in_order, given))
    suite = Suite.of(words, read(Session, {"suite": words.pop("suite", None)}).suite)
    how, session = read(Execution, suite.words), read(Session, suite.words)
    suite.check_count(session.yes or session.dry_run)
    store = Store(Path(session.store))
    with engine_named(session.engine) as engine:
        if session.dry_run:
            return pd.DataFrame(plan_rows(suite, planned_parts(suite, engine, how), store, how))
        compared = compare_all(suite, store, engine, how)
    return pd.DataFrame([row for one in compared for table in one.tables for row in flat_rows(table)])


def _asked(in_order: tuple[Any, ...], given: Mapping[str, Any]) -> Mapping[str, Any]:
    for one in options_of(Printed):
        if one.parameter in given:
            raise UsageError(
                f"{one.parameter!r} is an option of the command line, which prints; peftbench.run returns a DataFrame"
            )
    refuse_unknown(given, RUN_OPTIONS)
    return SIGNATURE.bind(*in_order, **given).arguments


def _parameter(one: Option) -> inspect.Parameter:
    kind = (
        inspect.Parameter.POSITIONAL_OR_KEYWORD
        if one.parameter in IN_ORDER
        else inspect.Parameter.KEYWORD_ONLY
    )
    annotation = one.type.annotation if one.default is not None else one.type.annotation | None
    return inspect.Parameter(one.parameter, kind, default=one.shown_default, annotation=annotation)


def _documented() -> str:
    """The docstring, with a line for each option."""
    begun, _, raised = inspect.cleandoc(run.__doc__ or "").partition("Raises:")
    lines = [f"    {one.parameter}: {one.help}" for one in RUN_OPTIONS]
    return "\n".join([begun + "Args:", *lines, "", "Raises:" + raised])


SIGNATURE = inspect.Signature(
    sorted(map(_parameter, RUN_OPTIONS), key=lambda one: one.kind), return_annotation="pd.DataFrame"
)
run.__signature__ = SIGNATURE  # type: ignore[attr-defined]
run.__doc__ = _documented()
