"""The command line: ``python -m pycnn`` and the ``pycnn`` script.

Every problem a user can cause ends in one line on stderr and exit status 2. Files are written
only after everything has been computed, so a run that fails or is interrupted leaves the
folder as it was.
"""

from __future__ import annotations

import argparse
import io
import sys
from typing import TYPE_CHECKING, NoReturn

from pycnn import config
from pycnn._files import Problem
from pycnn._version import __version__
from pycnn.cli import classify, features, train
from pycnn.cli._common import detach_stdout, note, printing

if TYPE_CHECKING:
    from collections.abc import Sequence

    from _typeshed import SupportsWrite

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Parameters
    ----------
    argv : sequence of str, optional
        The arguments after the program's name. By default those of the process.

    Returns
    -------
    int
        The exit status: 0 when all went well, 1 when all but some pictures could be classified,
        2 when something must be put right, 130 after Ctrl-C, 141 when the reader of standard
        output went away.
    """
    for stream in (sys.stdout, sys.stderr):
        # A file's name may hold characters that the terminal's encoding lacks.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        with printing():
            arguments = _parser().parse_args(argv)
        status: int = arguments.command(arguments)
    except Problem as problem:
        note(str(problem))
        return 2
    except MemoryError:
        note("not enough memory")
        return 2
    except KeyboardInterrupt:
        note("interrupted")
        return 130
    except BrokenPipeError:
        detach_stdout()
        return 141
    except SystemExit as done:  # argparse, after --help and --version
        return int(done.code or 0)
    return status


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise Problem(f"{message} (see {self.prog} --help)")

    def _print_message(self, message: str, file: SupportsWrite[str] | None = None) -> None:
        # Unlike argparse's own, this does not ignore that the text could not be written.
        print(message, end="", file=file)


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="pycnn",
        description="Convolutional layers at the speed of the machine, on plain NumPy arrays.",
    )
    parser.add_argument("--version", action="version", version=f"pycnn {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    train.add_parser(commands)
    classify.add_parser(commands)
    features.add_parser(commands)
    info = commands.add_parser(
        "info",
        help="version, build, CPU and threads",
        description="Print how pycnn was built and what it uses on this machine.",
    )
    info.set_defaults(command=_info)
    return parser


def _info(_: argparse.Namespace) -> int:
    with printing():
        config.show_config()
    return 0
