"""The code of docs/keras.md runs."""

import re
from pathlib import Path

import pytest

from keras_cases import FILTERS, interop, keras

pytestmark = [pytest.mark.filterwarnings(f) for f in FILTERS]
PAGE = Path(__file__).parents[2] / "docs" / "keras.md"


def test_the_code_of_the_page_runs(capsys):
    code = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.M | re.S)
    names = {}
    exec("\n".join(code), names)
    report = names["report"]
    assert len(report.replaced) == 3
    assert capsys.readouterr().out.strip() == str(report)
    assert interop.restore(names["model"]) == report.replaced
    assert isinstance(names["theirs"], keras.layers.Bidirectional)
