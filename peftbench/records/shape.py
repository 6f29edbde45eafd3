"""What the sections of a record look like, so that none that is broken reaches a report.

A record is a file: a person may edit it, a disk may damage it, another version may have written it. What is not named here
may be anything, and is read by nobody.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any

from ..errors import PeftbenchError

Check = Callable[[Any, str], None]  # (value, its place in the record); raises PeftbenchError
MOST = 1e100  # above any figure; its square is a number still


def _of(said: str, *types: type, holds: Callable[[Any], bool] = lambda value: True) -> Check:
    def check(value: Any, place: str) -> None:
        if type(value) not in types or not holds(value):
            raise PeftbenchError(f"its {place} is not {said}")

    return check


def _maybe(inner: Check) -> Check:
    def check(value: Any, place: str) -> None:
        if value is not None:
            inner(value, place)

    return check


def _many(inner: Check) -> Check:
    def check(value: Any, place: str) -> None:
        if type(value) is not list:
            raise PeftbenchError(f"its {place} is not a list")
        for item in value:
            inner(item, place)

    return check


def _numbers(least: float = -MOST, unknown: bool = False) -> Check:
    """A list of numbers above `least`: long ones of thousands of runs, so looked at as a whole."""
    types = {int, float, type(None)} if unknown else {int, float}

    def check(value: Any, place: str) -> None:
        if type(value) is not list or not set(map(type, value)) <= types:
            raise PeftbenchError(f"its {place} is not a list of numbers")
        known = [number for number in value if number is not None]
        if known and not min(known) > least:
            raise PeftbenchError(f"its {place} holds {min(known)}, which is not above {least:g}")
        if known and not max(known) < MOST:
            raise PeftbenchError(f"its {place} holds {max(known)}, which nothing measures")

    return check


def _named(inner: Check) -> Check:
    """Any names with values of one kind."""

    def check(value: Any, place: str) -> None:
        if type(value) is not dict:
            raise PeftbenchError(f"its {place} is not an object")
        for name, item in value.items():
            inner(item, f"{place}.{name}")

    return check


def _fields(needed: Mapping[str, Check], **possible: Check) -> Check:
    """Names with a kind each; those `needed` must be there."""
    known = {**needed, **possible}

    def check(value: Any, place: str) -> None:
        if type(value) is not dict:
            raise PeftbenchError(f"its {place} is not an object")
        for name in needed:
            if name not in value:
                raise PeftbenchError(f"its {place} lacks {name}")
        for name, inner in known.items():
            if name in value:
                inner(value[name], f"{place}.{name}" if place else name)

    return check


def _exactly(needed: Mapping[str, Check], **possible: Check) -> Check:
    """These names and no other: what is made of it takes all that stands there."""
    fields, known = _fields(needed, **possible), {**needed, **possible}

    def check(value: Any, place: str) -> None:
        fields(value, place)
        refuse_unknown_fields(value, known, f"its {place}")

    return check


def refuse_unknown_fields(data: Mapping[str, Any], known: Collection[str], said: str) -> None:
    """Name the program that wrote what this one does not know.

    Raises:
        PeftbenchError: there is something else in it than is known.
    """
    if strange := [name for name in data if name not in known]:
        raise PeftbenchError(
            f"{said} has {strange[0]!r}, which this version of the program does not know: a newer one wrote it"
        )


TEXT = _of("text", str)
FLAG = _of("true or false", bool)
NUMBER = _of(f"a number below {MOST:g}", int, float, holds=lambda value: abs(value) < MOST)
COUNT = _of("a whole number from 0 on", int, holds=lambda value: value >= 0)
SIZE = _of("a whole number above 0", int, holds=lambda value: value > 0)

_TIMES = _named(_numbers(0))
_PLACE = _fields({"batch": SIZE, "length": SIZE, "refusal": _maybe(TEXT)}, new_tokens=SIZE)


def _cells(*timed: str) -> Check:
    """Raw times of cells: the variants of each were timed in turns, each as often."""

    def check(value: Any, place: str) -> None:
        _PLACE(value, place)
        _fields(dict.fromkeys(timed, _TIMES))(value, place)
        for name in timed:
            if len({len(times) for times in value[name].values()}) > 1:
                raise PeftbenchError(f"its {place}.{name} has lists of several lengths")

    return _many(check)


_PEAK = _fields(
    dict.fromkeys(("peak_allocated_bytes", "peak_reserved_bytes", "peak_above_model_bytes"), _maybe(COUNT))
    | {"taken_by": TEXT},
    all_ranks_bytes=_maybe(COUNT),
)
_GPU = _maybe(_fields({}, throttle_reasons=_maybe(_many(TEXT)), sm_clock_mhz=_maybe(NUMBER)))
_METERED = {
    "taken_by": _maybe(TEXT),
    "energy_j": _maybe(NUMBER),
    "others_cpu_share": _maybe(NUMBER),
    "others_on_gpu": _maybe(COUNT),
    "gpu_before": _GPU,
    "gpu_after": _GPU,
}


def _shape(value: Any, place: str) -> None:
    """Of a step some parts, of each its rows, one or two widths, and perhaps how many tokens are asked for."""
    _many(_numbers(-1))(value, place)  # a decoder alone has 0 of the second width
    if not value or not {len(part) for part in value} <= {2, 3, 4}:
        raise PeftbenchError(f"its {place} holds something else than rows and widths")


_METRIC = _fields({"name": TEXT, "is_share": FLAG, "higher_is_better": FLAG, "unit": TEXT}, has_column=FLAG)
_RETAINED = _fields({"metric": _METRIC, "items": SIZE, "before": _named(NUMBER), "after": _named(NUMBER)})
_STEPPED = {"step_s": _numbers(0), "data_s": _numbers(), "tokens": _numbers(), "gradient_norms": _numbers(unknown=True)}  # fmt: skip
_TRAINING = _fields({"steps": COUNT}, losses=_numbers(unknown=True), padded_tokens=_numbers(0), shapes=_many(_shape), fit_s=NUMBER,
                    fit_items=COUNT, train_items=COUNT, departures=_many(TEXT), **_STEPPED, **_METERED)  # fmt: skip
_RULE = _exactly({"resolve": NUMBER, "first": SIZE, "cap": SIZE})  # a `SeedSchedule`
_KINDS = _fields({}, **dict.fromkeys([f"{kind}_bytes" for kind in ("weights", "gradients", "optimizer", "activations", "other")], COUNT))  # fmt: skip


_NEEDED_LIBRARIES = _fields(dict.fromkeys(("python", "torch", "transformers"), TEXT))
_VERSIONS = _named(_maybe(TEXT))


def _libraries(value: Any, place: str) -> None:
    _NEEDED_LIBRARIES(value, place)
    _VERSIONS(value, place)


_SURROUNDINGS = _fields(
    {
        "libraries": _libraries,
        "threads": _maybe(COUNT),
        **dict.fromkeys(("machine", "gpu", "processor"), _maybe(TEXT)),
    },
    jobs=SIZE,
    git_commit=_maybe(TEXT),
)
_NO_SURROUNDINGS = _fields({})


def _environment(value: Any, place: str) -> None:
    """Of a run that was killed it is empty."""
    (_SURROUNDINGS if value else _NO_SURROUNDINGS)(value, place)


def _point(value: Any, place: str) -> None:
    _fields({"step": SIZE, "train_s": NUMBER})(value, place)
    _named(NUMBER)(value, place)


def _compiled(value: Any, place: str) -> None:
    """Times of as many steps eager as compiled, or why there are none."""
    if isinstance(value, dict) and "refusal" in value:
        _fields({"refusal": TEXT})(value, place)
        return
    _fields({"eager_s": _numbers(0), "compiled_s": _numbers(0), "compile_s": NUMBER})(value, place)
    if not value["eager_s"] or len(value["eager_s"]) != len(value["compiled_s"]):
        raise PeftbenchError(f"its {place} has lists of several lengths, or none")


_HASHES = _fields(
    {"method": TEXT}, **dict.fromkeys(("model", "task", "data", "forgetting", "retain"), _maybe(TEXT))
)
_RUN = _fields({"identity": _HASHES})  # the rest by `Run.from_json`
_RECORD = _fields(
    {"key": TEXT, "status": TEXT, "run": _RUN},
    reason=_maybe(TEXT),
    failed_phase=_maybe(TEXT),
    failed_step=_maybe(COUNT),
    failed_memory=_maybe(_named(COUNT)),
    log_tail=_maybe(_many(TEXT)),
    claims=_maybe(_named(FLAG)),
    parameters=_maybe(_named(_maybe(COUNT))),
    memory=_maybe(_named(_maybe(_PEAK))),
    training=_maybe(_TRAINING),
    scoring=_maybe(_fields({"items": SIZE, "energy_j": _maybe(NUMBER)}, rows=SIZE, of_items=SIZE, graph_is_base=FLAG, **_METERED)),
    quality=_maybe(_named(NUMBER)),
    metric=_maybe(_METRIC),
    metrics=_maybe(_many(_METRIC)),
    forgetting=_maybe(_fields({"before_nll": NUMBER, "after_nll": NUMBER})),
    retained=_maybe(_many(_RETAINED)),
    curve=_maybe(_many(_point)),
    latency=_maybe(_cells("ms")),
    generation=_maybe(_cells("first_token_ms", "token_ms")),
    serving=_maybe(
        _many(_fields({"method": TEXT, "refusal": _maybe(TEXT)}, switch_ms=_TIMES, cells=_cells("ms")))
    ),
    profile=_maybe(
        _fields(
            {},
            memory_by_kind=_maybe(_KINDS),
            flops=_maybe(_many(_fields({"padded_tokens": SIZE, "flops": SIZE}, shape=_shape))),
            compiled=_maybe(_compiled),
        )
    ),
    meters=_maybe(
        _fields(
            {}, adapter_parameters=_named(COUNT), base_parameters=COUNT, timed_s=NUMBER,
            left_out=_maybe(_named(TEXT)), **_METERED,
        )
    ),
    checks=_maybe(_many(_exactly({"name": TEXT, "outcome": TEXT, "detail": TEXT}, figures=_maybe(_named(NUMBER))))),
    notices=_maybe(_many(TEXT)),
    model_notices=_maybe(_many(TEXT)),
    sequence=_maybe(_RULE),
    looks=_maybe(_many(_RULE)),
    files=_named(_fields({"bytes": COUNT, "sha256": TEXT})),
    environment=_environment,
    started_at=TEXT,
    wall_s=_maybe(NUMBER),
)  # fmt: skip
STATUSES = ("ok", "failed", "not supported")


def check_shape(data: Any) -> None:
    """Refuse a record that a report could not read.

    Args:
        data: as it was in the file.

    Raises:
        PeftbenchError: something in it is not what it should be; the message says what.
    """
    _RECORD(data, "")
    if data["status"] not in STATUSES:
        raise PeftbenchError(f"its status is {data['status']!r}, none of {', '.join(STATUSES)}")
    training = data.get("training") or {}
    if training.get("step_s"):
        _fields(_STEPPED)(training, "training")
        if any(
            len(training[name]) != len(training["step_s"])
            for name in (*_STEPPED, "shapes")
            if name in training
        ):
            raise PeftbenchError("its training has lists of several lengths")
