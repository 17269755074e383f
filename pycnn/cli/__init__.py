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
from pycnn.cli import features
from pycnn.cli._common import complain, detach_stdout, printing

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
        The exit status: 0 when all went well, 2 when something must be put right, 130 after
        Ctrl-C, 141 when the reader of standard output went away.
    """
    for stream in (sys.stdout, sys.stderr):
        # A file's name may hold characters that the terminal's encoding lacks.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        with printing():
            arguments = _parser().parse_args(argv)
        arguments.command(arguments)
    except Problem as problem:
        return complain(str(problem), 2)
    except MemoryError:
        return complain("not enough memory", 2)
    except KeyboardInterrupt:
        return complain("interrupted", 130)
    except BrokenPipeError:
        detach_stdout()
        return 141
    except SystemExit as done:  # argparse, after --help and --version
        return int(done.code or 0)
    return 0


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
    features.add_parser(commands)
    info = commands.add_parser(
        "info",
        help="version, build, CPU and threads",
        description="Print how pycnn was built and what it uses on this machine.",
    )
    info.set_defaults(command=_info)
    return parser


def _info(_: argparse.Namespace) -> None:
    with printing():
        config.show_config()
