"""Writes fastrnn.h and fastrnn.cpp: the C library for those who copy two files into their project.

    python tools/amalgamate.py FOLDER
    g++ -O3 -std=c++17 -c fastrnn.cpp

The sources, in CMakeLists.txt's order, with each header where it is first needed. Kernels stand
between pragmas that ask for their instruction set, as CMakeLists.txt's flags do; the text of their
headers comes once for each of them. All but fr_* is in an unnamed namespace, so that compilers
leave out what streams do not need (training, float64), and nothing can meet another library's
names.
"""

import pathlib
import re
import sys

root = pathlib.Path(__file__).resolve().parent.parent
cmake = (root / "CMakeLists.txt").read_text()

x86, arm = "defined(__x86_64__)", "defined(__aarch64__)"
platforms = {"avx": x86, "neon": arm, "generic": "1"}
# Compilers that know an instruction set, where g++ 9 and clang++ 11 do not.
compilers = {
    "avxvnni": "__clang_major__ >= 12 || (!defined(__clang__) && __GNUC__ >= 11)",
    "avx512bf16": "__clang_major__ >= 11 || (!defined(__clang__) && __GNUC__ >= 10)",
}
# What is given to the compiler for one processor alone is included before all else.
intrinsics = {"<immintrin.h>": x86, "<arm_neon.h>": arm}

top = """// fastrnn {version}, its C library in one file: see fastrnn.h. By tools/amalgamate.py.
//   g++ -O3 -std=c++17 -c fastrnn.cpp      (g++ >= 9 or clang++; -ffast-math would change results)
// Programs link with -pthread where their C library is older than glibc 2.34.
// {license}
#include "fastrnn.h"

#ifdef __FAST_MATH__
#error "fastrnn: -ffast-math would change results"
#endif
// The same bits everywhere: no contraction to fma but where the source says so.
#if defined(__clang__)
#pragma clang fp contract(off)
#else
#pragma GCC optimize("fp-contract=off", "no-math-errno", "no-trapping-math")
// GCC takes the deliberately undefined registers of its own avx512fintrin.h for mistakes.
#pragma GCC diagnostic ignored "-Wuninitialized"
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#endif
#pragma GCC diagnostic ignored "-Wunused-function"
"""


def condition(isa: str) -> str:
    """Where the kernels of an instruction set are compiled."""
    platform = next(p for name, p in platforms.items() if isa.startswith(name))
    return f"{platform} && ({compilers[isa]})" if isa in compilers else platform


def flags(isa: str) -> list[str]:
    """Of set(<isa>_flags ...) in CMakeLists.txt, with those that it names in turn."""
    found = re.search(rf"set\({isa}_flags ([^)]*)\)", cmake)
    words = found.group(1).split() if found else []
    out = []
    for word in words:
        inner = re.fullmatch(r"\$\{(\w+)_flags\}", word)
        out += flags(inner.group(1)) if inner else [word]
    return out


def sources(target: str) -> list[str]:
    """Return the sources that CMakeLists.txt gives an object library."""
    listed = re.search(rf"add_library\({target} OBJECT\s([^)]*)\)", cmake)
    assert listed, f"CMakeLists.txt: no sources of {target}"
    return listed.group(1).split()


class File:
    """The text under way, and what it has already included."""

    def __init__(self):
        self.system: dict[str, str] = {}  # the standard's and the system's headers: #if lines
        self.seen: set[pathlib.Path] = set()
        self.lines: list[str] = []

    def add(self, path: pathlib.Path, seen_by_target: set[pathlib.Path]):
        """Add a file and, where they are first named, its headers.

        Those of kernels come once for each target.
        """
        kernel = path.name.endswith("-inl.h") or path.parent.name == "simd"
        seen = seen_by_target if kernel else self.seen
        if path in seen:
            return
        seen.add(path)
        conditions: list[str] = []  # of the #if around the line
        self.lines.append(f"\n// --- {path.relative_to(root)}")
        for line in path.read_text().splitlines():
            if re.match(r"#\s*if", line):
                conditions.append(line)
            elif re.match(r"#\s*endif", line):
                conditions.pop()
            include = re.match(r'#\s*include ("(.*?)"|<.*?>)', line)
            if line == "#pragma once" or (include and include.group(2) == "fastrnn/fastrnn.h"):
                continue
            if include and include.group(2):
                self.add(root / "src" / include.group(2), seen_by_target)
            elif include:
                name = include.group(1)
                when = f"#if {intrinsics[name]}" if name in intrinsics else "\n".join(conditions)
                self.system[name] = when if self.system.get(name, when) else ""
            else:
                self.lines.append(line)

    def kernels(self, isa: str):
        """Everything of one instruction set."""
        kinds = ("kernels", "step", "quantized")
        paths = [root / f"src/kernels/{kind}_{isa}.cpp" for kind in kinds]
        given = flags(isa)
        options = [f[2:] for f in given if f.startswith("-m") and "=" not in f]
        tuning = [f[2:] for f in given if f.startswith("-mprefer")]
        march = [f[2:] for f in given if f.startswith("-march")]
        seen: set[pathlib.Path] = set()
        self.lines += [f"\n#if {condition(isa)}"]
        macros = [f"__{o.upper()}__" for o in options]
        if options or march:
            clang = ",".join(options + march).replace("arch=armv8.2-a+", "")
            gcc = ",".join(options + tuning + march)
            self.lines += [
                *[f"#ifndef {m}\n#define {m} 1\n#define FASTRNN_{m}\n#endif" for m in macros],
                "#ifdef __clang__",
                f'#pragma clang attribute push(__attribute__((target("{clang}"))), '
                "apply_to = function)",
                "#else",
                "#pragma GCC push_options",
                f'#pragma GCC target("{gcc}")',
                "#endif",
            ]
        for path in filter(pathlib.Path.exists, paths):
            self.lines.append("#undef FASTRNN_TARGET")
            self.add(path, seen)
        if options or march:
            self.lines += [
                *[f"#ifdef FASTRNN_{m}\n#undef {m}\n#endif" for m in macros],
                "#ifdef __clang__",
                "#pragma clang attribute pop",
                "#else",
                "#pragma GCC pop_options",
                "#endif",
            ]
        self.lines += ["#endif"]


def main(folder: pathlib.Path):
    """Write fastrnn.h and fastrnn.cpp into a folder."""
    version = re.search(r'^version = "(.*)"', (root / "pyproject.toml").read_text(), re.M).group(1)
    license_line = (root / "LICENSE").read_text().splitlines()[0]
    isas = {p.stem.split("_")[1]: [] for p in sorted((root / "src/kernels").glob("*_*.cpp"))}
    defines = [f'#define FASTRNN_VERSION "{version}"']
    for isa in isas:
        kinds = {"kernels": "HAVE", "quantized": "SMALL"}
        names = [
            f"#define FASTRNN_{name}_{isa.upper()} 1"
            for kind, name in kinds.items()
            if (root / f"src/kernels/{kind}_{isa}.cpp").exists()
        ]
        defines += [f"#if {condition(isa)}", *names, "#endif"]

    file = File()
    file.lines.append("namespace {")
    boundary = ("src/c_api.cpp", "src/c_pool.cpp")  # what defines fr_*, and fr_model itself
    for source in sources("fastrnn_objects") + sources("fastrnn_api"):
        if source not in boundary:
            file.add(root / source, set())
    for isa in isas:
        file.kernels(isa)
    file.lines.append("}  // namespace")
    for source in boundary:
        file.add(root / source, set())
    system = []
    for name, when in sorted(file.system.items()):
        system += [*when.splitlines(), f"#include {name}", *["#endif"] * len(when.splitlines())]

    folder.mkdir(parents=True, exist_ok=True)
    header = top.format(version=version, license=license_line)
    text = "\n".join([header, *defines, "", *system, "", *file.lines, ""])
    (folder / "fastrnn.cpp").write_text(text)
    (folder / "fastrnn.h").write_text((root / "src/include/fastrnn/fastrnn.h").read_text())


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(pathlib.Path(sys.argv[1]))
