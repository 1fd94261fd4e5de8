"""The programs in docs/embedded.md: they compile, run, and print what the page says."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
LIBRARY = Path(os.environ.get("FASTRNN_C_LIBRARY", ROOT / "build/make/libfastrnn.so"))
PAGE = (ROOT / "docs" / "embedded.md").read_text(encoding="utf-8")
FENCED = re.findall(r"^```(\w+)\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)

# A complete program names its file in its first line; what it prints is the next block.
PROGRAMS = [
    (re.search(r"\w+\.c(pp)?", code)[0], code, FENCED[place + 1][1])
    for place, (language, code) in enumerate(FENCED)
    if language in ("c", "cpp") and re.match(r"(//|/\*) \w+\.c", code)
]
# Other blocks are the inside of a function.
FRAGMENTS = [code for language, code in FENCED if language == "c" and "int main" not in code]
AROUND = """
#include <fastrnn/fastrnn.h>
int failed(void);
int example(fr_model *model);
int example(fr_model *model) {
%s
return 0;
}
"""
WARNINGS = ["-Wall", "-Wextra", "-Wpedantic", "-Werror"]
COMPILERS = {".c": ("CC", "cc", "-std=c99"), ".cpp": ("CXX", "c++", "-std=c++17")}


def compiler(suffix):
    variable, default, standard = COMPILERS[suffix]
    command = [*shlex.split(os.environ.get(variable, default)), standard, *WARNINGS]
    if not shutil.which(command[0]):
        pytest.skip(f"no compiler {command[0]}")
    return [*command, f"-I{ROOT / 'src' / 'include'}"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Return a folder in which the page's own Python has saved its model."""
    path = tmp_path_factory.mktemp("programs")
    block = next(code for language, code in FENCED if language == "python")
    lines = re.findall(r"^(?:>>>|\.\.\.) (.*)$", block, re.MULTILINE)
    subprocess.run([sys.executable, "-c", "\n".join(lines)], cwd=path, check=True)
    return path


def test_page_has_programs():
    assert [name for name, _, _ in PROGRAMS] == ["hello.c", "hello.cpp", "move.c", "pool.c"]
    assert len(FRAGMENTS) >= 1


@pytest.mark.parametrize("name, code, printed", PROGRAMS, ids=[each[0] for each in PROGRAMS])
def test_programs(folder, tmp_path, name, code, printed):
    source = folder / name
    source.write_text(code, encoding="utf-8")
    program = source.with_suffix(source.suffix + ".run")
    link = [str(LIBRARY), f"-Wl,-rpath,{LIBRARY.parent}"]
    subprocess.run([*compiler(source.suffix), str(source), "-o", str(program), *link], check=True)
    run = subprocess.run([str(program)], cwd=folder, check=True, capture_output=True, text=True)
    assert run.stdout == printed
    assert run.stderr == ""
    if source.suffix == ".c":  # without the model: a line that says so, not a crash
        run = subprocess.run([str(program)], cwd=tmp_path, capture_output=True, text=True)
        assert run.returncode == 1
        assert re.fullmatch(r"\w+: model\.safetensors: cannot be opened.*\n", run.stderr)


@pytest.mark.parametrize("code", FRAGMENTS)
def test_fragments_compile(tmp_path, code):
    source = tmp_path / "fragment.c"
    source.write_text(AROUND % code, encoding="utf-8")
    subprocess.run([*compiler(".c"), "-fsyntax-only", str(source)], check=True)
