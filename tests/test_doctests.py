"""The examples in docstrings and in the pages of docs/ run and print what they say."""

import doctest
import importlib
import pkgutil
import re
from pathlib import Path

import numpy as np
import pytest

import fastrnn

ROOT = Path(__file__).parent.parent
# Those of other libraries are not imported without need, and a program is none.
OTHERS = re.compile(r"fastrnn\.(bench\.(peers|worker)|_|.*__main__)")
MODULES = sorted(
    module.name
    for module in pkgutil.walk_packages(fastrnn.__path__, "fastrnn.")
    if not OTHERS.match(module.name)
)
PAGES = sorted(
    page
    for page in [ROOT / "README.md", *(ROOT / "docs").glob("**/*.md")]
    if re.search(r"^>>> ", page.read_text(encoding="utf-8"), re.M)
)


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
def fixed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # where examples write
    with np.printoptions(precision=4, suppress=True, threshold=50):
        yield


@pytest.mark.parametrize("name", MODULES)
def test_docstrings(name):
    module = importlib.import_module(name)
    for test in doctest.DocTestFinder(exclude_empty=True).find(module):
        test.globs.update(np=np, fastrnn=fastrnn)
        run(test)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_pages(page):
    text = page.read_text(encoding="utf-8")
    run(FencedParser().get_doctest(text, {}, page.name, str(page), 0))
