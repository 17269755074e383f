"""Opening files that may be anything, and replacing files whole or not at all."""

from __future__ import annotations

import errno
import os
import secrets
import stat
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = ["BadFile", "check_target", "open_regular", "write_files"]


class BadFile(ValueError):
    """What is wrong with a file's content; whoever knows the file's name adds it."""


# --- Reading -------------------------------------------------------------------------------


def open_regular(path: str | os.PathLike[str]) -> BinaryIO:
    """Open a file for reading, and at once, whatever it is.

    Parameters
    ----------
    path : str or os.PathLike
        The file's name.

    Returns
    -------
    binary file
        A regular file: one with an end, that cannot make its reader wait.

    Raises
    ------
    OSError
        If there is no such file, or it is a directory, a pipe or a device.
    """
    stream = open(path, "rb", opener=_open_at_once)  # noqa: SIM115
    # Of the open file, not of the name, which may stand for another file by now.
    if not stat.S_ISREG(os.fstat(stream.fileno()).st_mode):
        stream.close()
        raise _not_regular(path)
    return stream


def _open_at_once(path: str, flags: int) -> int:
    # Opening a FIFO would wait for its writer. Windows has none, nor the flag.
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


def _not_regular(path: str | os.PathLike[str]) -> OSError:
    return OSError(errno.EINVAL, "not a regular file", os.fspath(path))


# --- Writing -------------------------------------------------------------------------------


def check_target(path: str | os.PathLike[str]) -> tuple[Path, int | None]:
    """Find the file that writing to a name changes, if that is allowed.

    Parameters
    ----------
    path : str or os.PathLike
        The file's name.

    Returns
    -------
    target : pathlib.Path
        The file itself: a link is followed, as `open` does, and keeps pointing to its file.
    mode : int or None
        The permissions of the file that is there; None if there is none.

    Raises
    ------
    OSError
        If the file must not be replaced: a directory, a pipe, a device, a read-only file.
    """
    target = Path(os.path.realpath(path))
    try:
        mode = os.lstat(target).st_mode
    except FileNotFoundError:
        return target, None
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), os.fspath(path))
    # Renaming a file over a device such as /dev/null would remove the device.
    if not stat.S_ISREG(mode):
        raise _not_regular(path)
    # Renaming asks the directory alone, and would replace a file that was protected on purpose.
    if not os.access(target, os.W_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), os.fspath(path))
    return target, stat.S_IMODE(mode)


def write_files(writers: Mapping[Path, Callable[[BinaryIO], object]]) -> None:
    """Write files so that each appears whole, and none before all could be written.

    Whatever interrupts this, an exception, a killed process or a power cut, each name stands
    for its old content or for its new one. Files get the permissions that `open` would give
    them: those of the file that was there, else what the umask says. Only a process that is
    killed (SIGKILL, power) leaves its temporary file, ``.pycnn-*.tmp``, beside the target.

    Parameters
    ----------
    writers : mapping of pathlib.Path to callable
        For each file a function that writes its content to an open binary file.

    Raises
    ------
    OSError
        If a file cannot be written; it names that file. What was there before is still there.
        What a writer raises otherwise is passed on.
    """
    written: list[tuple[Path, Path, Path]] = []
    path = Path()
    try:
        for path, write in writers.items():
            target, mode = check_target(path)
            # In the same directory, because a rename does not cross file systems.
            temporary = target.parent / f".pycnn-{secrets.token_hex(8)}.tmp"
            written.append((temporary, target, path))
            with open(temporary, "xb") as stream:
                if mode is not None:
                    os.chmod(temporary, mode)  # before there is anything to read
                write(stream)
                stream.flush()
                # A rename may reach the disk before what was written.
                os.fsync(stream.fileno())
        for temporary, target, path in written:  # noqa: B007  # the error needs its name
            os.replace(temporary, target)
        for directory in {target.parent for _, target, _ in written}:
            _flush_directory(directory)
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error  # not the temporary's name
    finally:
        for temporary, _, _ in written:
            temporary.unlink(missing_ok=True)


def _flush_directory(directory: Path) -> None:
    """Make renames last. Windows opens no directories, and does this by itself."""
    if os.name == "nt":
        return
    try:
        descriptor = os.open(directory, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        # Not every file system can flush a directory, and not every directory that may be
        # written may be read. The files are whole all the same.
        if error.errno not in (errno.EINVAL, errno.EACCES):
            raise
