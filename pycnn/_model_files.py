"""Saved networks: a description and named arrays in one file, ``.npz`` or ``.safetensors``.

Both are what their suffix says, and other tools read them:

- ``.npz``: `numpy.load(path, allow_pickle=False)` gives the arrays, and ``__metadata__``, the
  description as JSON in bytes: ``json.loads(bytes(file["__metadata__"]))``. A file written with
  `numpy.savez` from such arrays is a network, too; `numpy.savez_compressed` is not, because a
  compressed file can claim and fill any amount of memory.
- ``.safetensors`` (``pip install "pycnn[models]"``): `safetensors.numpy.load_file(path)` gives
  the arrays; the description is the entry ``pycnn`` of the metadata. The format has no checksum,
  so the description holds one of the arrays and of itself.

The description is ``{"version": 1, "config": {...}}``; a file of a newer version is refused.
The same network gives the same bytes.

Saving replaces the file whole or not at all, and when it returns the file is on the disk
(`pycnn._disk.write_files`). A symbolic link as target stays; the file it points to is replaced.

A file is data from a stranger when it is read. Nothing in it is executed or unpickled, every
size it claims is held against the size it has, and a damaged bit is found. Reading takes the
memory of the arrays for ``.npz``, twice that for ``.safetensors``, and at most some 40 MB for
the description and the table of contents, which may have 1 MiB each.
"""

from __future__ import annotations

import io
import os
import re
import struct
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, BinaryIO, NamedTuple

import numpy as np

from pycnn import _checks, _json, _npy
from pycnn._disk import BadFile, open_regular, write_files

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType

    from pycnn._typing import Array

__all__ = ["model_writer", "read_model", "write_model"]

VERSION = 1

# The most bytes of a table of contents. It grows some twenty times when it becomes Python objects;
# ten thousand arrays fit.
MAX_HEADER = 2**20

# A hundred characters for each of the containers in each other, for a layer and for its array.
MAX_NAME = 2000

# The description's place among the arrays, where safetensors keeps it anyway.
_METADATA = "__metadata__"

_DTYPES = ("float32", "float64")

# What precedes a member of a zip archive; here, the lengths of its name and extra field.
_LOCAL_HEADER = struct.Struct("<26x2H")
_NAME_IS_UTF8 = 0x800


def write_model(
    path: str | os.PathLike[str], config: dict[str, Any], arrays: Mapping[str, Array]
) -> None:
    """Save a network's description and arrays, whole or not at all.

    Parameters
    ----------
    path : str or os.PathLike
        The file, ``.npz`` or ``.safetensors``; the suffix chooses the format. A file that is
        there is replaced and its permissions are kept.
    config : dict
        What JSON can hold. It comes back as JSON keeps it: tuples as lists, keys as strings.
    arrays : mapping of str to numpy.ndarray of float32 or float64, any shape
        Names are printable and make a relative path: ``"conv1/filters"``.

    Raises
    ------
    TypeError
        If an argument has the wrong type, or `config` holds what JSON cannot.
    ValueError
        If the suffix or a name is none of these, or `config` is too large or too deep, or holds
        NaN or infinity.
    OSError
        If the file cannot be written. What was there before is still there.
    ImportError
        If safetensors is not installed.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = folder + "/net.npz"
    ...     write_model(path, {"layers": ["relu"]}, {"w": np.ones((2, 3), np.float32)})
    ...     read_model(path)
    ({'layers': ['relu']}, {'w': array([[1., 1., 1.],
           [1., 1., 1.]], dtype=float32)})
    """
    writer = model_writer(path, config, arrays)
    write_files({Path(path): writer})


def model_writer(
    path: str | os.PathLike[str], config: dict[str, Any], arrays: Mapping[str, Array]
) -> Callable[[BinaryIO], None]:
    """Prepare what `write_model` writes, for who writes other files with it.

    Parameters
    ----------
    path, config, arrays
        As for `write_model`.

    Returns
    -------
    callable
        For `pycnn._disk.write_files`: writes the network to an open binary file.

    Raises
    ------
    TypeError, ValueError
        As `write_model`.
    """
    name, form = _format_of(path, "Sequential.save")
    if not isinstance(config, dict):
        raise TypeError(f"Sequential.save: config is a {type(config).__name__}; expected a dict")
    if not isinstance(arrays, Mapping):
        raise TypeError(f"Sequential.save: arrays is a {type(arrays).__name__}; expected a mapping")
    ready = {key: _ready(key, arrays[key]) for key in sorted(arrays, key=_checked_name)}
    description = {"version": VERSION, "config": config}
    try:
        _json.dump(description)
    except TypeError as error:
        raise TypeError(f"Sequential.save: config: {error}") from error
    except BadFile as error:
        raise ValueError(f"Sequential.save: config: {error}") from error

    def write(stream: BinaryIO) -> None:
        try:
            form.write(stream, description, ready)
        except BadFile as error:
            raise ValueError(f"Sequential.save: arrays for {name!r}: {error}") from error

    return write


def read_model(path: str | os.PathLike[str]) -> tuple[dict[str, Any], dict[str, Array]]:
    """Read a network's description and arrays from a file that nobody vouches for.

    Parameters
    ----------
    path : str or os.PathLike
        The file, ``.npz`` or ``.safetensors``.

    Returns
    -------
    config : dict
        The description.
    arrays : dict of str to numpy.ndarray of float32 or float64
        The arrays in the order of their names, native and contiguous in C order.

    Raises
    ------
    OSError
        If there is no such file, it cannot be read, or is no regular file.
    ValueError
        If it does not hold a network, is damaged, or was written by a newer pycnn.
    TypeError
        If `path` is no path.
    ImportError
        If safetensors is not installed.
    """
    name, form = _format_of(path, "Sequential.load")
    with open_regular(name) as stream:
        try:
            description, arrays = form.read(stream)
        except BadFile as error:
            raise ValueError(f"cannot read a network from {name!r}: {error}") from error
    return description["config"], {key: arrays[key] for key in sorted(arrays)}


# --- Arguments -----------------------------------------------------------------------------


def _format_of(path: str | os.PathLike[str], func: str) -> tuple[str, _Format]:
    try:
        name = os.fspath(path)
    except TypeError:
        name = None
    if not isinstance(name, str):
        raise TypeError(f"{func}: path is a {type(path).__name__}; expected str or os.PathLike")
    suffix = os.path.splitext(name)[1]
    if suffix not in _FORMATS:
        raise ValueError(
            f"{func}: path={name!r} ends in {suffix!r}; expected {' or '.join(_FORMATS)}"
        )
    try:
        valid = b"\0" not in os.fsencode(name)
    except UnicodeEncodeError:
        valid = False
    if not valid:
        raise ValueError(f"{func}: path={name!r} has a character that no file's name can have")
    return name, _FORMATS[suffix]


def _check_name(name: str) -> None:
    """Names are harmless wherever another tool unpacks the archive."""
    if (
        not 0 < len(name) <= MAX_NAME
        or not name.isprintable()
        or re.search(r"[\\:]", name)
        or {"", ".", ".."} & set(name.split("/"))
        or name == _METADATA
    ):
        raise BadFile(
            f"an array is named {name[:200]!r}; expected a relative path of 1 to "
            f"{MAX_NAME} printable characters without backslash and colon, and not {_METADATA!r}"
        )


def _checked_name(name: object) -> str:
    if not isinstance(name, str):
        raise TypeError(f"Sequential.save: arrays has the key {name!r}; expected a str")
    try:
        _check_name(name)
    except BadFile as error:
        raise ValueError(f"Sequential.save: arrays: {error}") from None
    return name


def _ready(name: str, value: object) -> Array:
    """Return the array as the file stores it: in C order, little-endian."""
    array = _checks.as_array(value, "Sequential.save", f"arrays[{name!r}]")
    if array.dtype.name not in _DTYPES:
        raise TypeError(
            f"Sequential.save: arrays[{name!r}] has dtype {array.dtype}; "
            f"expected {' or '.join(_DTYPES)}"
        )
    return np.asarray(array, array.dtype.newbyteorder("<"), order="C")


# --- The description -----------------------------------------------------------------------


def _check_description(description: dict[str, Any]) -> None:
    version = description.get("version")
    if type(version) is not int or version < 1 or not isinstance(description.get("config"), dict):
        raise BadFile(
            "its description has no version and config; expected a network that pycnn saved"
        )
    if version > VERSION:
        raise BadFile(
            f"a newer pycnn wrote it, in version {_checks.in_words(version)} of the format; "
            f"this one reads up to version {VERSION}"
        )


# --- npz -----------------------------------------------------------------------------------


def _write_npz(stream: BinaryIO, description: dict[str, Any], arrays: Mapping[str, Array]) -> None:
    members = {_METADATA: np.frombuffer(_json.dump(description), np.uint8), **arrays}
    with zipfile.ZipFile(stream, "w") as archive:
        for name, array in members.items():
            member = zipfile.ZipInfo(f"{name}.npy")  # of 1980, whenever this is
            member.create_system = 3  # and wherever
            member.external_attr = 0o644 << 16
            # Where the size is unknown yet zipfile must be told that it may exceed 2 GiB.
            with archive.open(member, "w", force_zip64=True) as file:
                np.lib.format.write_array(file, array, (1, 0), allow_pickle=False)
        start = archive.start_dir
    if stream.tell() - start > MAX_HEADER:
        raise BadFile(f"its {len(arrays)} names are too long or too many")


class _Sparing(io.FileIO):
    """A file for zipfile, which reads a directory of whatever size the file claims."""

    def read(self, size: int | None = -1, /) -> bytes:
        if size is not None and size > MAX_HEADER:
            raise BadFile(f"its zip directory claims {size} bytes; expected at most {MAX_HEADER}")
        return super().read(size)


def _read_npz(stream: BinaryIO) -> tuple[dict[str, Any], dict[str, Array]]:
    arrays = {}
    try:
        with (
            _Sparing(stream.fileno(), closefd=False) as file,
            zipfile.ZipFile(file) as archive,
        ):
            for name, member in _members(file, archive).items():
                with archive.open(member) as data:
                    arrays[name] = _member_array(name, data, member.file_size)
    # Of zipfile's own (CRC errors are BadZipFile): a format it does not know, an undecodable
    # name, and the end of the file where it expects more.
    except (zipfile.BadZipFile, NotImplementedError, UnicodeDecodeError, EOFError) as error:
        reason = str(error) or "it ends too early"
        raise BadFile(f"it is not a whole zip archive: {reason:.200}") from error
    if _METADATA not in arrays:
        raise BadFile(f"it has no member {_METADATA}.npy; expected a network that pycnn saved")
    description = _json.parse(arrays.pop(_METADATA).tobytes())
    _check_description(description)
    return description, arrays


def _members(file: _Sparing, archive: zipfile.ZipFile) -> dict[str, zipfile.ZipInfo]:
    """Return the archive's members by the name of the array, in the order of the file.

    They must lie side by side from its begin to its directory. So none overlap, all together
    are no larger than the file, and none is missing from a damaged directory.
    """
    members: dict[str, zipfile.ZipInfo] = {}
    end = 0
    for member in sorted(archive.infolist(), key=lambda member: member.header_offset):
        full = member.orig_filename  # not the one zipfile cuts at a NUL
        name = full.removesuffix(".npy")
        if name == full:
            raise BadFile(f"its member {full[:60]!r} is not an .npy file")
        if name != _METADATA:
            _check_name(name)
        if name in members:
            raise BadFile(f"it has the member {full!r} twice")
        if member.compress_type != zipfile.ZIP_STORED or member.file_size != member.compress_size:
            raise BadFile(f"its member {full!r} is compressed; expected plain, as numpy.savez does")
        if member.flag_bits & ~_NAME_IS_UTF8:
            raise BadFile(f"its member {full!r} is encrypted or of a kind that no .npz has")
        if member.header_offset != end or end > archive.start_dir:
            raise BadFile(
                f"its member {full!r} is at byte {member.header_offset}; "
                f"expected {end}, before the directory at {archive.start_dir}"
            )
        file.seek(end)
        header = file.read(_LOCAL_HEADER.size)
        if len(header) != _LOCAL_HEADER.size:
            raise BadFile(f"its member {full!r} is at its end")
        end += _LOCAL_HEADER.size + sum(_LOCAL_HEADER.unpack(header)) + member.file_size
        members[name] = member
    if end != archive.start_dir:
        raise BadFile(f"its members end at byte {end}; expected {archive.start_dir}")
    return members


def _member_array(name: str, data: IO[bytes], n_bytes: int) -> Array:
    try:
        array = _npy.read_array(data, n_bytes)
    except BadFile as error:
        raise BadFile(f"array {name!r}: {error}") from error
    expected = ("uint8",) if name == _METADATA else _DTYPES
    if array.dtype.name not in expected:
        raise BadFile(f"array {name!r} has dtype {array.dtype}; expected {' or '.join(expected)}")
    return array


# --- safetensors ---------------------------------------------------------------------------


def _safetensors() -> ModuleType:
    try:
        import safetensors.numpy
    except ImportError as error:
        raise ImportError(
            f'{error}; for .safetensors files: pip install "pycnn[models]"; .npz needs nothing more'
        ) from error
    return safetensors


def _checksum(description: dict[str, Any], arrays: Mapping[str, Array]) -> int:
    """CRC-32, as in a zip archive, of all that must come back as it was written."""
    crc = zlib.crc32(_json.dump(description))
    for name in sorted(arrays):
        array = arrays[name]
        crc = zlib.crc32(f"{name} {array.dtype.name} {array.shape}".encode(), crc)
        crc = zlib.crc32(array.data, crc)
    return crc


def _write_safetensors(
    stream: BinaryIO, description: dict[str, Any], arrays: Mapping[str, Array]
) -> None:
    save = _safetensors().numpy.save
    text = _json.dump({"crc32": _checksum(description, arrays), **description}).decode("ascii")
    # One entry, because safetensors shuffles them.
    content = save(dict(arrays), {"pycnn": text})
    if _header_length(content) > MAX_HEADER:
        raise BadFile(f"its description and {len(arrays)} names together exceed {MAX_HEADER} bytes")
    stream.write(content)


def _header_length(content: bytes) -> int:
    return int.from_bytes(content[:8], "little")


def _read_safetensors(stream: BinaryIO) -> tuple[dict[str, Any], dict[str, Array]]:
    library = _safetensors()
    content = stream.read(os.fstat(stream.fileno()).st_size)
    length = _header_length(content)
    if length > MAX_HEADER:
        raise BadFile(f"its header claims {length} bytes; expected at most {MAX_HEADER}")
    header = _json.parse(content[8 : 8 + length])
    metadata = header.pop(_METADATA, None)
    text = metadata.get("pycnn") if isinstance(metadata, dict) else None
    if not isinstance(text, str):
        raise BadFile("its metadata have no entry 'pycnn'; expected a network that pycnn saved")
    description = _json.parse(text.encode("utf-8", "surrogatepass"))
    _check_description(description)
    for name, tensor in header.items():
        _check_tensor(name, tensor)
    try:
        arrays = library.numpy.load(content)
    except library.SafetensorError as error:
        raise BadFile(f"it is not a whole safetensors file: {error!s:.200}") from error
    crc = description.pop("crc32", None)
    if crc != _checksum(description, arrays):
        raise BadFile("its content does not match its checksum, so it is damaged")
    return description, arrays


def _check_tensor(name: str, tensor: object) -> None:
    """Refuse what safetensors takes and NumPy does not."""
    _check_name(name)
    dtype, shape = (
        (tensor.get("dtype"), tensor.get("shape")) if isinstance(tensor, dict) else (None, None)
    )
    if dtype not in ("F32", "F64"):
        raise BadFile(f"array {name!r} has dtype {dtype!r:.60}; expected 'F32' or 'F64'")
    if not isinstance(shape, list) or any(type(size) is not int or size < 0 for size in shape):
        raise BadFile(f"array {name!r} has shape {shape!r:.60}; expected whole numbers")
    try:
        _npy.check_shape(tuple(shape), 8)
    except BadFile as error:
        raise BadFile(f"array {name!r}: {error}") from error


class _Format(NamedTuple):
    write: Callable[[BinaryIO, dict[str, Any], Mapping[str, Array]], None]
    read: Callable[[BinaryIO], tuple[dict[str, Any], dict[str, Array]]]


_FORMATS = {
    ".npz": _Format(_write_npz, _read_npz),
    ".safetensors": _Format(_write_safetensors, _read_safetensors),
}
