"""The record of a run: what was asked, what came of it, and where."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson

from ..errors import PeftbenchError, UsageError
from ..finite import finite
from .runs import SCHEMA, Run
from .shape import check_shape, refuse_unknown_fields

LONGEST_WHOLE = 19  # digits
PASS, FAIL, NOT_CLAIMED, NOT_TESTED = OUTCOMES = "pass", "fail", "not claimed", "not tested"


@dataclass(frozen=True)
class Check:
    """One claim that a run was held to, and what came of it."""

    name: str
    outcome: str  # one of the four above
    detail: str = ""
    figures: dict[str, float] | None = None  # what a table tells of it


@dataclass(frozen=True)
class Record:
    """One run and what came of it. Sections that a run did not reach, or does not have, are None."""

    run: Run
    key: str
    status: str  # "ok", "failed" or "not supported"
    reason: str | None = None
    failed_phase: str | None = None
    failed_step: int | None = None
    failed_memory: dict[str, int] | None = None  # the last reading: resident_bytes, allocated_bytes
    log_tail: list[str] | None = None  # of a run that failed
    claims: dict[str, bool] | None = None  # what the method declares of itself
    parameters: dict[str, int | None] | None = None
    memory: dict[str, dict[str, Any] | None] | None = None  # by phase: "train", "score"
    training: dict[str, Any] | None = None  # raw, one number a step
    scoring: dict[str, Any] | None = None  # of the scored split: items, and what it took to score them
    quality: dict[str, float] | None = None  # by metric, on the test split
    metric: dict[str, Any] | None = None  # the primary metric: name, higher_is_better, is_share, unit
    metrics: list[dict[str, Any]] | None = (
        None  # the same of each of `quality`, the primary one first; None: of an older run
    )
    constant: dict[str, float | None] | None = None  # of one answer to every item, the best: "loss", "score"
    forgetting: dict[str, float] | None = None  # nats a token on another text: before_nll, after_nll, tokens
    # Of each task in `run.retain`, in that order: metric (as above), items, and its figures before and after.
    retained: list[dict[str, Any]] | None = None
    curve: list[dict[str, Any]] | None = None  # validation figures at moments of training
    latency: list[dict[str, Any]] | None = None  # raw, by cell, variant and round
    generation: list[dict[str, Any]] | None = None  # the same, of prompts and decoding
    serving: list[dict[str, Any]] | None = None  # by method: switching between tasks, batches of several
    profile: dict[str, Any] | None = None  # memory by kind at the peak, operations of steps
    meters: dict[str, Any] | None = None  # of a latency run: how it was timed, beside what, the GPU's state
    checks: list[dict[str, Any]] | None = None  # the fields of `Check`
    notices: list[str] | None = None  # what a reader should know of the task's data
    model_notices: list[str] | None = None  # what of its checkpoint was left out, or taken otherwise
    sequence: dict[str, Any] | None = None  # the rule by which seeds were added when it was made
    looks: list[dict[str, Any]] | None = None  # further rules under which it was looked at since
    files: dict[str, dict[str, Any]] = field(default_factory=dict)  # beside the record: bytes and sha256
    environment: dict[str, Any] = field(default_factory=dict)
    started_at: str = ""  # UTC, ISO 8601
    wall_s: float | None = None
    schema: int = SCHEMA

    @property
    def rules(self) -> list[dict[str, Any]]:
        """Every rule by which seeds were added while this run was looked at: each look spends of the same 5 %."""
        return [rule for rule in (self.sequence, *(self.looks or ())) if rule is not None]

    @property
    def is_older(self) -> bool:
        """Whether this program would make its key otherwise: it is of another version, which computed something differently."""
        return self.key != self.run.key

    @property
    def part_scored(self) -> tuple[bool, int] | None:
        """Of a run that was to score a part of its split, what tells which: whether this version chooses it so, and its rows."""
        if self.status != "ok" or self.run.kind != "training" or self.run.budget.scored_items is None:
            return None
        scoring = self.scoring or {}
        rows = scoring.get("rows", scoring.get("items", 0))
        return not self.is_older or scoring.get("of_items") == rows, rows

    def to_text(self) -> str:
        """Strict JSON: numbers that are not finite become null."""
        # Not by `asdict`, which copies every figure of every step first.
        fields = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return json.dumps(finite({**fields, "run": self.run.to_json()}), indent=1, allow_nan=False) + "\n"

    @classmethod
    def from_text(cls, text: str) -> Record:
        """Read a record.

        Raises:
            PeftbenchError: it is not JSON, of another schema, lacks a field, or has one that is not what it should be.
        """
        try:
            data = _parsed(text)
            schema = data["schema"]
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise PeftbenchError("not valid JSON of a record") from error
        if schema != SCHEMA:
            raise PeftbenchError(f"schema {schema}, this program reads {SCHEMA}")
        check_shape(data)
        refuse_unknown_fields(data, {field.name for field in dataclasses.fields(cls)}, "it")
        if strange := [c["outcome"] for c in data.get("checks") or () if c["outcome"] not in OUTCOMES]:
            raise PeftbenchError(f"the outcome {strange[0]!r} of a check is none of {', '.join(OUTCOMES)}")
        try:
            return cls(**{**data, "run": Run.from_json(data["run"])})
        except (TypeError, KeyError, AttributeError) as error:
            raise PeftbenchError(f"no record that this version of the program reads: {error}") from error

    @classmethod
    def from_file(cls, file: Path) -> Record:
        return cls.from_text(file.read_text(encoding="utf-8"))


def _parsed(text: str) -> Any:
    """Twice as fast as the standard library, which a report of thousands of runs feels."""
    try:
        return orjson.loads(text)
    except ValueError:  # an error's text may hold bytes that are none, which only the standard library takes
        return json.loads(text, parse_constant=lambda name: None, parse_int=_within)


def _within(digits: str) -> float:
    """A whole number, of one that no record has a float: what is computed of it stays a number."""
    return int(digits) if len(digits) < LONGEST_WHOLE else float(digits)


def between_0_and_1(metric: Mapping[str, Any]) -> bool:
    """Whether a metric, as a record keeps it, is a share of something: correlations are shown times 100, too."""
    return bool(metric["is_share"]) and metric.get("unit") == "%"


NOT_REPRODUCED = "not reproduced"


def check_verifiable(record: Record) -> None:
    """Whether a record can be verified.

    Raises:
        UsageError: it is no finished run with predictions.
    """
    if record.run.kind not in ("training", "tuning"):
        raise UsageError(
            f"a {record.run.kind} run measures costs, which differ from run to run; verify a training run"
        )
    if record.status != "ok":
        raise UsageError(f"this run {record.status}: {record.reason}; there is nothing to compare with")
