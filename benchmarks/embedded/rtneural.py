"""Build and run rtneural.cpp: small streams beside RTNeural, compiled for their exact sizes.

    git clone --recursive https://github.com/jatinchowdhury18/RTNeural
    cmake -S . -B build/core -DFASTRNN_PYTHON=OFF && cmake --build build/core
    python benchmarks/embedded/rtneural.py RTNeural build/core/libfastrnn.a

Its backends are Eigen, part of its tree, and xsimd, its submodule; RTNeural is compiled for the
machine (-march=native), fastrnn is not. Run it on a quiet machine.
"""

import argparse
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parents[1]


def main() -> None:
    """Compile each backend in a namespace of its own, link, and run with two scales of weights."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("rtneural", type=Path)
    parser.add_argument("library", type=Path)
    parser.add_argument("--xsimd", type=Path, help="its include folder, where not the submodule's")
    parser.add_argument("--build", type=Path, default=Path("build/rtneural"))
    parser.add_argument("--cxx", default="g++")
    given = parser.parse_args()
    given.build.mkdir(parents=True, exist_ok=True)
    modules = given.rtneural / "modules"
    includes = [given.rtneural, modules / "json", modules / "Eigen"]
    includes.append(given.xsimd or modules / "xsimd/include")
    flags = ["-std=c++17", "-O3", "-DNDEBUG"]
    objects = []
    for backend in ("eigen", "xsimd"):
        objects.append(given.build / f"{backend}.o")
        names = [
            f"-DPEER={backend}_peer",
            f"-DRTNEURAL_NAMESPACE=RTNeural_{backend}",
            f"-DRTNEURAL_USE_{backend.upper()}=1",
            "-DRTNEURAL_DEFAULT_ALIGNMENT=32",
        ]
        where = [flag for folder in includes for flag in ("-isystem", str(folder))]
        source = ["-c", str(HERE / "rtneural_peer.cpp"), "-o", str(objects[-1])]
        run([given.cxx, *flags, "-march=native", *names, *where, *source], objects[-1])
    program = given.build / "rtneural"
    sources = [str(HERE / "rtneural.cpp"), *map(str, objects), str(given.library)]
    run([given.cxx, *flags, f"-I{ROOT / 'src/include'}", *sources, "-o", str(program)])
    for scale in ("1", "3"):
        subprocess.run([program, scale], check=True)


def run(command: list[str], made: Path | None = None) -> None:
    """Run a compiler, unless what it makes is there and newer than its sources."""
    newest = max(path.stat().st_mtime for path in HERE.glob("*.[ch]*"))
    if made is not None and made.exists() and made.stat().st_mtime > newest:
        return
    print(" ".join(command), file=sys.stderr)
    subprocess.run(command, check=True)


if __name__ == "__main__":
    main()
