"""What the tutorial for those who come from PyTorch says, run with PyTorch."""

import re
from pathlib import Path

import pytest

pytest.importorskip("torch")

PAGE = Path(__file__).parents[2] / "docs" / "tutorials" / "from-pytorch.md"


def test_code_of_the_tutorial_runs():
    if not PAGE.exists():
        pytest.skip("the documentation is not here")
    text = PAGE.read_text(encoding="utf-8")
    parts = re.findall(r"^```python\n(?!>>>)(.*?)^```", text, re.M | re.S)
    assert any("import torch" in part for part in parts)
    for part in parts:
        exec(compile(part, str(PAGE), "exec"), {})
