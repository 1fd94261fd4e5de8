"""A character model that writes like Python's documentation
=========================================================

It trains for a minute, then writes. ``make demo`` runs this; ``python examples/demo.py --seconds
10`` is a shorter one. Everything here is done by the ``fastrnn`` command, and each command line is
shown as it runs.
"""

import argparse
import shlex
import sys
import sysconfig
from pathlib import Path

from fastrnn import cli

MOST_CHARACTERS = 1_000_000


def find_text() -> tuple[str, str]:
    """Return a text that every CPython carries, and its name."""
    try:
        from pydoc_data.topics import topics
    except ImportError:  # some distributions leave it out
        sources = sorted(Path(sysconfig.get_path("stdlib")).glob("*.py"))
        text = "".join(path.read_text(encoding="utf-8") for path in sources)
        return text[:MOST_CHARACTERS], "the sources of Python's standard library"
    return "\n".join(topics[name] for name in sorted(topics)), "Python's documentation"


def fastrnn(*arguments: str) -> None:
    print(f"\n$ fastrnn {shlex.join(arguments)}", flush=True)
    status = cli.main(arguments)
    if status:
        sys.exit(status)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seconds", default="60", help="of training (default: 60)")
    parser.add_argument("--out", default="build/demo", help="folder (default: build/demo)")
    arguments = parser.parse_args()

    folder = Path(arguments.out)
    folder.mkdir(parents=True, exist_ok=True)
    text, name = find_text()
    file = folder / "text.txt"
    file.write_text(text, encoding="utf-8")
    print(f"A 2-layer LSTM learns to write like {name}, for {arguments.seconds} seconds.")

    limits = ("--epochs", "1000", "--time-limit", arguments.seconds)
    fastrnn("train", str(file), *limits, "--out", str(folder))
    for temperature in ("0.3", "0.7", "1.0"):
        fastrnn(
            "sample", str(folder), "--temperature", temperature, "--prime", "The ", "--seed", "1"
        )

    command = Path(sys.executable).parent / "fastrnn"
    if command.is_relative_to(Path.cwd()):
        command = command.relative_to(Path.cwd())
    print(
        f"\nThe model is in {folder / cli.MODEL_FILE}. Next, give it other words to go\n"
        f"on from, or train one on your own text:\n"
        f'  {command} sample {folder} --temperature 0.5 --prime "The class "\n'
        f"  {command} train YOUR.txt --out your-model"
    )


if __name__ == "__main__":
    main()
