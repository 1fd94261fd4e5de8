"""The command line: ``fastrnn train``, ``sample``, ``eval``, ``quantize`` and others.

Results go to standard output, progress and errors to standard error. The exit status is 0; 2 for
bad input, which gets one line; 1 if training diverged or a file could not be written; 130 after
Ctrl-C.
"""

from __future__ import annotations

import argparse
import io
import os
import sys
from collections.abc import Callable, Sequence

from .. import __version__
from .common import MODEL_FILE, CommandError, Parser
from .config import config_file, set_defaults

__all__ = ["MODEL_FILE", "main"]

EXAMPLES = """\
examples:
  fastrnn train book.txt --out book        train a character model on a text
  fastrnn sample book --temperature 0.7    let it write
  fastrnn eval book other.txt              its loss on another text
  fastrnn inspect book book.txt            which cells follow quotes or lines
  fastrnn export book --out book.onnx      for other programs
  fastrnn quantize book --to int8 --out b8  smaller and faster
  fastrnn forecast sales.csv --column sold  the next values of a series
  fastrnn serve book --port 8000           over HTTP and WebSockets, with a page
  fastrnn info book                        how it was made
  fastrnn bench --quick                    its speed beside other libraries

fastrnn COMMAND --help says more.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line `argv` (by default that of the process); return the exit status."""
    if isinstance(sys.stdout, io.TextIOWrapper):  # a model may know more than the terminal
        sys.stdout.reconfigure(errors="replace")
    name = "fastrnn"
    try:
        parser = _parser()
        arguments = parser.parse_args(argv)
        name = f"fastrnn {arguments.command}"
        path = config_file(arguments)
        if path is not None:
            set_defaults(path, arguments.command, arguments.parser)
            arguments = parser.parse_args(argv)
        run: Callable[[argparse.Namespace], int] = arguments.run
        status = run(arguments)
        sys.stdout.flush()
        return status
    except SystemExit as stop:  # --help and --version
        return int(stop.code or 0)
    except CommandError as error:
        print(f"{name}: {error}", file=sys.stderr)
        return error.status
    except MemoryError:
        print(f"{name}: not enough memory", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"{name}: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader of our output went away, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


def _parser() -> Parser:
    from .about import add_bench, add_info
    from .export import add_export
    from .forecast import add_forecast
    from .quantize import add_quantize
    from .serve import add_serve
    from .text import add_eval, add_inspect, add_sample
    from .train import add_train

    parser = Parser(
        prog="fastrnn",
        usage="fastrnn COMMAND ...",
        description="Fast recurrent networks on the CPU: models of texts, forecasts of series.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"fastrnn {__version__}")
    commands = parser.add_subparsers(
        dest="command", metavar="COMMAND", required=True, title="commands", prog="fastrnn"
    )
    of_texts = (add_train, add_sample, add_eval, add_inspect, add_export)
    for add in (*of_texts, add_quantize, add_forecast, add_serve, add_info, add_bench):
        add(commands)
    return parser
