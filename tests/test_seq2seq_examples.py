"""The examples of encoder-decoders, made small: they run, and learn more than chance."""

import datetime
import importlib.util
from pathlib import Path

import numpy as np
import pytest


def example(name):
    path = Path(__file__).parent.parent / "examples" / f"{name}.py"
    if not path.exists():
        pytest.skip("the examples are not here")
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_dates_are_written_and_learned(capsys):
    dates = example("dates")
    exact, characters = dates.main(steps=80, batch=32, test=50)
    assert 0.0 <= exact <= 1.0
    assert characters > 0.5  # the best that one answer for all could reach is 0.456
    assert "exact match of 50 held-out dates" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("number", "words"), [(1, "first"), (12, "twelfth"), (20, "twentieth"), (31, "thirty first")]
)
def test_ordinals(number, words):
    dates = example("dates")
    assert dates.ordinal(number) == words
    assert [dates.short_ordinal(n) for n in (1, 2, 3, 11, 12, 13, 22, 30)] == [
        "1st", "2nd", "3rd", "11th", "12th", "13th", "22nd", "30th"
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("year", "words"),
    [
        (1900, {"nineteen hundred"}),
        (1905, {"nineteen oh five"}),
        (1989, {"nineteen eighty nine"}),
        (2000, {"two thousand"}),
        (2005, {"two thousand five", "two thousand and five"}),
        (2015, {"twenty fifteen", "two thousand fifteen", "two thousand and fifteen"}),
    ],
)
def test_years(year, words):
    dates, rng = example("dates"), np.random.default_rng(0)
    assert {dates.year_in_words(year, rng) for _ in range(50)} == words


def test_dates_have_eight_formats():
    dates, rng = example("dates"), np.random.default_rng(0)
    day = datetime.date(1989, 7, 14)
    texts = {dates.in_words(day, rng).lower() for _ in range(200)}
    assert texts == {
        "the fourteenth of july nineteen eighty nine",
        "july the fourteenth, nineteen eighty nine",
        "fourteenth july nineteen eighty nine",
        "friday, july 14th, 1989",
        "fri 14 jul 1989",
        "july 14, 1989",
        "the 14th day of july in the year nineteen eighty nine",
        "friday the fourteenth of july, 1989",
    }


def test_twice_as_long_learns():
    results = example("twice_as_long").main(steps=45, longest=4, hidden=32, count=30)
    for (_, letters), _ in results.values():
        assert letters > 0.3  # where one of 26 is chance
