"""The examples in docstrings and in the pages of docs/ run and print what they say."""

import doctest
import importlib
import re
import sys
from pathlib import Path

import numpy as np
import pytest

import fastrnn

ROOT = Path(__file__).parent.parent
PACKAGE = Path(fastrnn.__file__).parent


def has_examples(path):
    return re.search(r"^ *>>> ", path.read_text(encoding="utf-8"), re.M)


MODULES = [path for path in sorted(PACKAGE.glob("**/*.py")) if has_examples(path)]
PAGES = [path for path in sorted((ROOT / "docs").glob("**/*.md")) if has_examples(path)]


class FencedParser(doctest.DocTestParser):
    """Takes the code between fences of a page of Markdown, and nothing else."""

    def parse(self, string, name="<string>"):
        fenced, lines = False, []
        for line in string.splitlines():
            mark = line.startswith("```")
            lines.append(line if fenced and not mark else "")
            fenced ^= mark
        return super().parse("\n".join(lines) + "\n", name)


def run(test):
    found = []
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS)
    runner.run(test, out=found.append)
    assert runner.failures == 0, "".join(found)


@pytest.fixture(autouse=True)
def fixed(tmp_path, monkeypatch, set_num_threads):
    monkeypatch.chdir(tmp_path)  # where examples write
    monkeypatch.setitem(sys.modules, "tensorboard", None)  # where it is, its import takes seconds
    set_num_threads(1)  # all are small
    with np.printoptions(precision=4, suppress=True, threshold=50):
        yield


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.stem)
def test_docstrings(path):
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    try:
        module = importlib.import_module(".".join(parts).removesuffix(".__init__"))
    except ImportError as error:
        if parts[1] != "interop":
            raise
        pytest.skip(f"NOT TESTED: {error}")
    for test in doctest.DocTestFinder(exclude_empty=True).find(module):
        test.globs.update(np=np, fastrnn=fastrnn)
        run(test)


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.stem)
def test_pages(path):
    text = path.read_text(encoding="utf-8")
    run(FencedParser().get_doctest(text, {}, path.name, str(path), 0))
