"""From the user's files to rows, one batch at a time: wanted columns alone, checked on the way, never all in memory.

What is wrong with a file is said in one line that names file, row and column. Rows are counted from 1, the header apart.
"""

from __future__ import annotations

import codecs
import csv as stdlib_csv
import gzip
import io
import itertools
import json
import lzma
import re
import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet

from ..errors import UsageError
from ..printable import printable

BATCH_ROWS = 10_000
EXACT = 2**53  # whole numbers up to here are themselves in double precision
BLOCK_BYTES = 16 << 20  # of CSV that is read at once; no single row may be longer


@dataclass(frozen=True)
class NeededColumn:
    """A column that a task needs."""

    name: str  # in the file
    option: str  # of the SPEC, that names it
    kind: type[str | float] = str
    is_name: bool = False  # a word that stands for something: blanks around it are none of its own


class _Wrong(Exception):
    """Something that is wrong with a file, without the file's name."""


def endings(kind: str) -> tuple[str, ...]:
    """The file name endings of a kind of file."""
    return tuple(f"{plain}{packed}" for plain in _ENDINGS[kind] for packed in ("", *_PACKED))


def read(file: Path, kind: str, columns: Mapping[str, NeededColumn]) -> Iterator[pa.RecordBatch]:
    """The columns of a file under the names that the task has for them, as text or numbers.

    Args:
        kind: "csv", "jsonl" or "parquet".
        columns: what the task calls a column -> where it comes from.

    Raises:
        UsageError: the file does not read, lacks a column, or has an empty, missing or wrong value in one.
    """
    wanted = list(dict.fromkeys(column.name for column in columns.values()))
    try:
        yield from checked(_READERS[kind](file, wanted), f"data file {str(file)!r}", columns)
    except _Wrong as wrong:
        raise UsageError(f"data file {str(file)!r}: {wrong}") from wrong
    except (pa.ArrowException, OSError, EOFError, lzma.LZMAError, zlib.error, UnicodeError) as error:
        raise UsageError(f"data file {str(file)!r} can't be read: {_said(error)}") from error


def checked(
    batches: Iterable[pa.RecordBatch], where: str, columns: Mapping[str, NeededColumn]
) -> Iterator[pa.RecordBatch]:
    """The same rows with the task's names and types.

    Raises:
        UsageError: a column is not there, or a value is empty, missing or no number.
    """
    row = 0
    for batch in batches:
        for column in columns.values():
            if column.name not in batch.schema.names:
                hint = f"; name the right one with :{column.option}=COLUMN" if column.option else ""
                raise UsageError(
                    f"{where} has no column {column.name!r}; it has {', '.join(map(printable, batch.schema.names))}{hint}"
                )
        made = []
        for column in columns.values():
            try:
                made.append(_typed(batch.column(column.name), column, f"{where}: row", row))
            except _Wrong as wrong:
                raise UsageError(f"{where}: column {column.name!r} {wrong}") from wrong
            except pa.ArrowException as error:
                raise UsageError(f"{where}: column {column.name!r} can't be read: {_said(error)}") from error
        yield pa.RecordBatch.from_arrays(made, list(columns))
        row += batch.num_rows


def _typed(values: pa.Array, column: NeededColumn, where: str, before: int) -> pa.Array:
    """Text with something in it, or finite numbers."""

    def refuse(bad: pa.Array, what: str) -> None:
        if pc.any(bad).as_py():
            at = int(np.flatnonzero(bad.to_numpy(zero_copy_only=False))[0])
            shown = str(values[at].as_py())[:60]
            raise UsageError(
                f"{where} {before + at + 1}, column {column.name!r}: {what.format(shown)}; fix or remove such rows "
                f"(here {pc.sum(bad).as_py():,} of {len(bad):,} rows)"
            )

    if column.kind is str:
        texts = _as_text(values)
        empty = pc.or_kleene(pc.is_null(texts), pc.equal(pc.utf8_trim_whitespace(texts), ""))
        refuse(pc.fill_null(empty, True), "it is empty")
        return pc.utf8_trim_whitespace(texts) if column.is_name else texts
    if pa.types.is_string(values.type) or pa.types.is_large_string(values.type):
        trimmed = pc.utf8_trim_whitespace(values)
        number = pc.match_substring_regex(trimmed, r"^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$")
        refuse(pc.fill_null(pc.invert(number), True), "{!r} is no number")
        values = pc.cast(trimmed, pa.float64())
    if pa.types.is_nested(values.type) or pa.types.is_temporal(values.type):
        raise _Wrong(f"is of type {values.type}, and holds no numbers")
    numbers = pc.cast(values, pa.float64(), safe=False)
    if pa.types.is_integer(values.type):
        large = pc.greater(pc.abs(numbers), float(EXACT))
        refuse(pc.fill_null(large, False), "{} is too large to be an exact number")
    refuse(pc.fill_null(pc.invert(pc.is_finite(numbers)), True), "{!r} is no number")
    return numbers


def _as_text(values: pa.Array) -> pa.Array:
    """Numbers and truth values as they are written; whole numbers without a point."""
    if pa.types.is_string(values.type):
        return values
    if pa.types.is_floating(values.type):
        whole = values.to_numpy(zero_copy_only=False)
        texts = [None if not np.isfinite(v) else str(int(v)) if v == int(v) else str(v) for v in whole]
        return pa.array(texts, pa.string())
    if pa.types.is_nested(values.type):
        raise _Wrong(f"is of type {values.type}, and no text")
    return pc.cast(values, pa.string())


def _csv(file: Path, wanted: list[str]) -> Iterator[pa.RecordBatch]:
    csv = pyarrow.csv
    delimiter = "\t" if ".tsv" in map(str.lower, file.suffixes) else ","
    _refuse_encoding(file)
    _refuse_dialect(file, delimiter)
    how = {
        "read_options": csv.ReadOptions(use_threads=False, block_size=BLOCK_BYTES),
        "parse_options": csv.ParseOptions(newlines_in_values=True, delimiter=delimiter),
    }
    with opened(file) as source:
        names = csv.open_csv(source, **how).schema.names
    _refuse_delimiter(names, wanted)
    columns = wanted if set(wanted) <= set(names) else names
    _refuse_doubles(names, columns)
    convert = csv.ConvertOptions(
        include_columns=columns,  # the others may hold anything
        column_types=dict.fromkeys(columns, pa.string()),
        strings_can_be_null=False,
        null_values=[],
    )
    with opened(file) as source:
        yield from csv.open_csv(source, convert_options=convert, **how)


def _refuse_encoding(file: Path) -> None:
    """A text in two bytes a letter would be taken for one with rows missing."""
    with opened(file) as source:
        head = bytes(source.read(1024))
    if head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) or b"\0" in head:
        raise _Wrong("it is no UTF-8, but UTF-16 or no text; save the file as UTF-8")


def _refuse_dialect(file: Path, delimiter: str) -> None:
    """Quotes that are not those of CSV: the reader would take a text apart and say nothing."""
    stdlib_csv.field_size_limit(BLOCK_BYTES)
    with opened(file) as source:
        # What is not ASCII is no concern of quotes, and said when it is read.
        text = io.TextIOWrapper(source, encoding="latin-1", newline="")
        rows = stdlib_csv.reader(text, delimiter=delimiter, strict=True)
        row = 0  # the header is none
        try:
            for fields in rows:
                if delimiter == "\t" and any("\n" in text and "\t" in text for text in fields):
                    raise _Wrong(
                        f"row {row}: a quote before its text is closed behind another row alone; quote all of such a text, and "
                        "write a quote inside it twice"
                    )
                row += 1
        except stdlib_csv.Error as error:
            if "expected after" not in str(error):
                return  # which is said as what it is when it is read
            raise _Wrong(
                f"row {row}: a quoted text goes on behind its closing quote; a quote inside quotes is written twice, as in "
                '"say ""yes"""'
            ) from error


def _refuse_delimiter(names: list[str], wanted: list[str]) -> None:
    """Columns that are parted by something else, as some programs do where a comma is in numbers, are read as one."""
    if re.fullmatch("sep=.?", names[0]):
        raise _Wrong(f"its first line is {names[0]!r}, which is no header; take it away")
    marks = [mark for mark in ";\t|," if mark in names[0]]
    if len(names) == 1 and marks and names[0] not in wanted:
        raise _Wrong(
            f"its columns are parted by {marks[0]!r}; save it with commas, or with tabs as .tsv ({printable(names[0][:60])})"
        )


def _refuse_doubles(names: list[str], wanted: list[str]) -> None:
    if twice := [name for name in wanted if names.count(name) > 1]:
        raise _Wrong(f"column {twice[0]!r} stands twice in it")


def _jsonl(file: Path, wanted: list[str]) -> Iterator[pa.RecordBatch]:
    """One object a line; a missing value is null. Names that no object has are reported with those that the first has."""
    _refuse_encoding(file)
    items, known, before = json_objects(file), set[str](), 0
    while rows := list(itertools.islice(items, BATCH_ROWS)):
        known.update(name for name in wanted if any(name in row for row in rows))
        if lacking := {*wanted} - known:  # a name that comes later is missing here
            known.update(name for row in items for name in row if name in lacking)
        columns = {name: _array(rows, name, before) for name in wanted if name in known}
        if len(columns) < len(wanted):  # so that the message can offer what there is
            columns |= {name: pa.nulls(len(rows)) for name in rows[0] if name not in columns}
        yield pa.RecordBatch.from_pydict(columns)
        before += len(rows)


def _array(rows: list[dict[str, Any]], name: str, before: int) -> pa.Array:
    """Texts, whatever the types of one batch: so the other rows of a file do not change how a value is written."""
    for number, row in enumerate(rows, start=before + 1):
        if isinstance(row.get(name), list | dict):
            kind = "an object" if isinstance(row[name], dict) else "a list"
            raise _Wrong(f"row {number}, column {name!r}: {kind} is no text")
    return pa.array([_written(row.get(name)) for row in rows], pa.string())


def _written(value: Any) -> str | None:
    """As Arrow writes it: `true`, and whole numbers without a point. None is missing, and what some programs write for it, NaN."""
    if value is None or (isinstance(value, float) and not np.isfinite(value)):
        return None
    if isinstance(value, bool):
        return str(value).lower()
    return str(int(value)) if isinstance(value, float) and value == int(value) else str(value)


def _parquet(file: Path, wanted: list[str]) -> Iterator[pa.RecordBatch]:
    with pyarrow.parquet.ParquetFile(str(file)) as source:
        here = source.schema_arrow.names
        columns = wanted if set(wanted) <= set(here) else here
        _refuse_doubles(here, columns)
        yield from source.iter_batches(BATCH_ROWS, columns=columns)


def opened(file: Path) -> Any:
    """The bytes of a file, unpacked, to read."""
    packed = file.suffix.lower()
    if packed == ".gz":
        return gzip.open(file, "rb")
    if packed == ".xz":
        return lzma.open(file, "rb")
    return pa.input_stream(str(file), compression={".bz2": "bz2", ".zst": "zstd"}.get(packed))


def json_objects(file: Path) -> Iterator[dict[str, Any]]:
    """The objects of a file with one JSON object a line, packed or not.

    Raises:
        UsageError: a line is something else.
    """
    with opened(file) as source:
        for number, line in enumerate(io.TextIOWrapper(source, encoding="utf-8-sig"), start=1):
            if not line.strip():
                continue
            where = f"data file {str(file)!r}: line {number}"
            try:
                item = json.loads(line, object_pairs_hook=_each_once)
            except _Wrong as wrong:
                raise UsageError(f"{where}: {wrong}") from wrong
            except (ValueError, RecursionError) as error:
                hint = "; JSON Lines has one whole object on each line" if line.strip() in "[{" else ""
                raise UsageError(f"{where} is not JSON: {_said(error)}{hint}") from error
            if not isinstance(item, dict):
                raise UsageError(
                    f'{where} is not a JSON object; JSON Lines has one on each line, as in {{"name": ...}}'
                )
            yield item


def _each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        _refuse_doubles(names, names)
    return found


def _said(error: Exception) -> str:
    text = " ".join(str(error).split())[:200]
    if "invalid UTF8" in text or isinstance(error, UnicodeError):
        text += "; save the file as UTF-8"
    # Arrow counts the header among a CSV file's rows.
    return re.sub(r"Row #(\d+)", lambda match: f"row {int(match[1]) - 1}", text)


_PACKED = (".gz", ".bz2", ".xz", ".zst")
_ENDINGS = {"csv": (".csv", ".tsv"), "jsonl": (".jsonl", ".json"), "parquet": (".parquet",)}
FILE_KINDS = tuple(_ENDINGS)
_READERS = {"csv": _csv, "jsonl": _jsonl, "parquet": _parquet}
