"""Columns of a CSV file as numbers, and the times that go on after its last."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence
from datetime import date, datetime, timedelta
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .common import CommandError, read_text

__all__ = ["Numbers", "Table", "as_times", "later", "read_table", "rising"]

DELIMITERS = ",;\t|"
MISSING = ("", "na", "n/a", "nan", "null", "none")

Numbers = NDArray[np.float64]


class Table(NamedTuple):
    """The rows of a CSV file, as text, with the numbers of their lines."""

    path: str
    names: list[str]
    rows: list[list[str]]
    lines: list[int]
    decimal_comma: bool

    def place(self, row: int, name: str) -> str:
        """Return what an error begins with: file, line and column."""
        return f"{self.path}: line {self.lines[row]}, column {name}"

    def texts(self, name: str, flag: str) -> list[str]:
        """Return a column; CommandError if there is none of that name."""
        if name not in self.names:
            known = ", ".join(each or "''" for each in self.names)
            raise CommandError(f"{flag}: expected a column of {self.path} ({known}), got {name}")
        index = self.names.index(name)
        return [row[index].strip() for row in self.rows]

    def numbers(self, name: str, flag: str) -> Numbers:
        """Return a column as numbers, NaN where one is missing."""
        found = np.empty(len(self.rows))
        for row, text in enumerate(self.texts(name, flag)):
            if text.lower() in MISSING:
                found[row] = math.nan
                continue
            try:
                found[row] = float(text.replace(",", ".") if self.decimal_comma else text)
            except ValueError:
                found[row] = math.inf
            if not math.isfinite(found[row]):
                raise CommandError(f"{self.place(row, name)}: expected a number, got {text!r}")
        return found


def read_table(path: str) -> Table:
    """Return a CSV file whose first line names the columns; blank lines are left out.

    The delimiter is the one of comma, semicolon, tab and bar that the first line has most of. With
    semicolons numbers may have decimal commas.
    """
    text = read_text(path).removeprefix("\N{ZERO WIDTH NO-BREAK SPACE}")
    first = text.lstrip().splitlines()[:1] or [""]
    delimiter = max(DELIMITERS, key=first[0].count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    rows, lines = [], []
    try:
        for row in reader:
            if any(cell.strip() for cell in row):
                rows.append(row)
                lines.append(reader.line_num)
    except csv.Error as error:
        raise CommandError(f"{path}: line {reader.line_num}: not CSV ({error})") from None
    if len(rows) < 2:
        raise CommandError(f"{path}: expected a line of names and rows of values")
    names = [cell.strip() for cell in rows[0]]
    double = next((name for name in names if names.count(name) > 1), None)
    if double is not None:
        raise CommandError(f"{path}: line {lines[0]}: two columns are named {double!r}")
    for row, line in zip(rows, lines, strict=True):
        if len(row) != len(names):
            raise CommandError(f"{path}: line {line}: expected {len(names)} values, got {len(row)}")
    return Table(path, names, rows[1:], lines[1:], delimiter == ";")


# --- times ----------------------------------------------------------------------------------------


def rising(table: Table, name: str) -> list[Any] | None:
    """Return a column as dates or numbers, None if it is neither; CommandError if it falls."""
    texts = table.texts(name, "--time")
    times = as_times(texts)
    if times is None:
        return None
    for row in range(1, len(times)):
        try:
            rises = times[row - 1] < times[row]  # and not NaN
        except TypeError:  # with and without a time zone
            rises = False
        if not rises:
            raise CommandError(
                f"{table.place(row, name)}: expected a time after {texts[row - 1]}, "
                f"got {texts[row]}"
            )
    return times


def as_times(texts: Sequence[str]) -> list[Any] | None:
    """Return texts as dates (2024-12-31, 2024-12, with a time of day or not), or as numbers.

    None if they are neither.
    """
    months = all(len(text) == 7 for text in texts)
    for kind in (datetime.fromisoformat, float):
        try:
            return [kind(f"{text}-01" if months and kind is not float else text) for text in texts]
        except ValueError:
            continue
    return None


def later(times: Sequence[Any] | None, texts: Sequence[str], count: int) -> list[str]:
    """Return the next `count` times as texts; "+1", "+2", ... where no step is seen."""
    unknown = [f"+{i}" for i in range(1, count + 1)]
    if times is None or len(times) < 3:
        return unknown
    last, recent = times[-1], times[-13:]
    differences = [b - a for a, b in pairwise(recent)]
    if isinstance(last, float):
        even = all(math.isclose(d, differences[-1], rel_tol=1e-6) for d in differences)
        ahead = [f"{last + i * differences[-1]:.14g}" for i in range(1, count + 1)]
        return ahead if even else unknown
    months = _months(recent)
    try:
        if months is not None:
            following = [_after(last, i * months) for i in range(1, count + 1)]
        elif len(set(differences)) == 1:
            following = [last + i * differences[-1] for i in range(1, count + 1)]
        else:
            return unknown
    except (OverflowError, ValueError):  # beyond the year 9999
        return unknown
    separator, size = " " if " " in texts[-1] else "T", len(texts[-1])
    return [each.isoformat(separator)[:size] for each in following]


def _months(times: Sequence[Any]) -> int | None:
    """Return the number of months between each two of these times, if it is always the same."""
    steps = {(b.year - a.year) * 12 + b.month - a.month for a, b in pairwise(times)}
    same = len({(time.day, time.time()) for time in times}) == 1
    ends = all((time + timedelta(days=1)).day == 1 for time in times)
    return steps.pop() if len(steps) == 1 and (same or ends) and 0 not in steps else None


def _after(time: datetime, months: int) -> datetime:
    """Return the same day so many months later; the last of a month stays the last."""
    year, month = divmod(time.year * 12 + time.month - 1 + months, 12)
    following = date(year + (month == 11), (month + 1) % 12 + 1, 1) - timedelta(days=1)
    ends = (time + timedelta(days=1)).day == 1
    return time.replace(year=year, month=month + 1, day=following.day if ends else time.day)
