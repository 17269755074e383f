"""Files made to harm whoever reads them as a network.

Run as a script it is the child process: it reads them with little memory.
"""

import io
import json
import os
import resource
import struct
import sys
import warnings
import zipfile
from pathlib import Path

import numpy as np
from children import run_well
from test_model_files import ARRAYS, BAD_NAMES, CONFIG, SUFFIXES, description

from pycnn._model_files import read_model, write_model

MEMORY = 64 * 2**20  # above what the process has when it has imported everything


def npy(array):
    stream = io.BytesIO()
    np.lib.format.write_array(stream, array)
    return stream.getvalue()


def claiming(shape, n_bytes=64):
    stream = io.BytesIO()
    header = {"descr": "<f4", "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(stream, header)
    return stream.getvalue() + bytes(n_bytes)


META = ("__metadata__.npy", npy(np.frombuffer(description(), np.uint8)))
W = npy(np.ones(3))


def archive(*members, compression=zipfile.ZIP_STORED):
    """Return a zip archive; a member that is already there is added again."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", compression) as file, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of names that are there twice
        for name, content in (META, *members):
            file.writestr(zipfile.ZipInfo(name), content, compression)
    return stream.getvalue()


def central(content, nth, offset, form, value):
    """Change a field of the nth entry of an archive's directory."""
    position = -1
    for _ in range(nth + 1):
        position = content.index(b"PK\x01\x02", position + 1)
    return patched(content, position + offset, form, value)


def patched(content, position, form, value):
    damaged = bytearray(content)
    struct.pack_into(form, damaged, position, value)
    return bytes(damaged)


def with_zip64(content, n_entries, size, offset):
    """Return the archive with the end of a large one, which may claim anything."""
    end = content.rindex(b"PK\x05\x06")
    values = (44, 45, 45, 0, 0, n_entries, n_entries, size, offset)
    large = struct.pack("<4sQ2H2L4Q", b"PK\x06\x06", *values)
    locator = struct.pack("<4sLQL", b"PK\x06\x07", 0, end, 1)
    return content[:end] + large + locator + content[end:]


def with_zip64_field(content, nth, offsets, values):
    """Return the archive with fields of the nth entry of its directory moved to 64 bits."""
    start = -1
    for _ in range(nth + 1):
        start = content.index(b"PK\x01\x02", start + 1)
    stop = start + 46 + struct.unpack_from("<H", content, start + 28)[0]
    entry = patched(content[start:stop], 30, "<H", 4 + 8 * len(values))
    for offset in offsets:
        entry = patched(entry, offset, "<L", 2**32 - 1)
    extra = struct.pack(f"<HH{len(values)}Q", 1, 8 * len(values), *values)
    end = content.rindex(b"PK\x05\x06")
    size = struct.unpack_from("<L", content, end + 12)[0]
    rest = content[stop:end] + patched(content[end:], 12, "<L", size + len(extra))
    return content[:start] + entry + extra + rest


def tensors(header, data=b"", length=None):
    raw = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(raw) if length is None else length) + raw + data


def tensor(shape=(1,), start=0, stop=4, dtype="F32"):
    return {"dtype": dtype, "shape": shape, "data_offsets": [start, stop]}


OURS = {"__metadata__": {"pycnn": description(crc32=0).decode()}}
SIZES = [-1, 2**31 - 1, 2**31, 2**32, 2**63 - 1, 2**63, 2**64 - 1]


def hostile():
    """Yield names of files, their content, and words of the sentence that refuses them."""
    yield "empty.npz", b"", "not a whole zip archive"
    yield "text.npz", b"hello\n" * 1000, "not a whole zip archive"
    yield "pickle.npz", b"\x80\x04N.", "not a whole zip archive"
    yield "npy.npz", W, "not a whole zip archive"
    yield "twice.npz", archive(("w.npy", W), ("w.npy", W)), "member 'w.npy' twice"
    yield "twice-meta.npz", archive(META), "member '__metadata__.npy' twice"
    yield "text-member.npz", archive(("w.txt", b"1")), "'w.txt' is not an .npy file"
    yield "folder.npz", archive(("w/", b"")), "'w/' is not an .npy file"
    for number, name in enumerate(BAD_NAMES):
        if name not in ("__metadata__", "\ud800", "a\0b"):
            yield f"name{number}.npz", archive((f"{name}.npy", W)), "an array is named"
    nul = archive(("aXb.npy", W)).replace(b"aXb", b"a\0b")
    yield "name-nul.npz", nul, r"an array is named 'a\x00b'"
    yield "bad-utf8.npz", archive(("é.npy", W)).replace("é".encode(), b"\xff\xff"), "can't decode"

    bomb = npy(np.zeros(2**20))
    for kind in (zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA):
        yield f"bomb{kind}.npz", archive(("w.npy", bomb), compression=kind), "is compressed"
    one = archive(("w.npy", W))
    yield "unknown-method.npz", central(one, 1, 10, "<H", 99), "is compressed"
    yield "encrypted.npz", central(one, 1, 8, "<H", 1), "is encrypted"
    yield "patched.npz", central(one, 1, 8, "<H", 32), "is encrypted"
    yield "version.npz", central(one, 1, 6, "<H", 90), "zip file version 9.0"
    yield "crc.npz", central(one, 1, 16, "<L", 0), "Bad CRC-32"
    for size in (0, 1, len(W) - 1, len(W) + 1, 2**31 - 1, 2**31, 2**32 - 2):
        yield (
            f"both-sizes{size}.npz",
            central(central(one, 1, 20, "<L", size), 1, 24, "<L", size),
            "Bad CRC|end at byte",
        )
        yield f"packed{size}.npz", central(one, 1, 20, "<L", size), "is compressed"
        yield f"full{size}.npz", central(one, 1, 24, "<L", size), "is compressed"
        yield f"offset{size}.npz", central(one, 1, 42, "<L", size), "is at byte|not a whole"
    two = archive(("a.npy", W), ("b.npy", W))
    start = two.index(b"PK\x03\x04", two.index(b"a.npy"))
    inside = central(two, 2, 42, "<L", start - 10)
    yield "overlap.npz", inside, "is at byte"
    for value in (2**31, 2**63 - 1, 2**63, 2**64 - 1):
        name = f"offset64-{value}.npz"
        yield name, with_zip64_field(one, 1, [42], [value]), "is at byte"
        # The member before it claims to fill the space.
        size = value - 46
        reaching = with_zip64_field(
            with_zip64_field(one, 1, [42], [value]), 0, [24, 20], [size] * 2
        )
        yield f"reaching{value}.npz", reaching, f"'w.npy' is at byte {value}; expected {value}"
    end = one.rindex(b"PK\x05\x06")
    for value in (0, 1, 2**31, 2**32 - 1):
        yield f"directory{value}.npz", patched(one, end + 12, "<L", value), "zip|member"
        yield f"start{value}.npz", patched(one, end + 16, "<L", value), "zip|is at byte"
    for value in (2**20 + 1, 2**31, 2**40, 2**62, 2**63, 2**64 - 1):
        yield f"zip64-{value}.npz", with_zip64(one, 2, value, 0), "zip"
        # A start that fits the size, so that the directory would be read.
        fits = (end - value) % 2**64
        yield f"zip64-fit{value}.npz", with_zip64(one, 2, value, fits), "zip"
    entry = b"PK\x01\x02" + bytes(24) + struct.pack("<H", 1) + bytes(16) + b"x"
    count, size = 1_000_000, 1_000_000 * len(entry)
    many = entry * count + struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, 65535, 65535, size, 0, 0)
    yield "directory.npz", many, "zip directory claims 47000000 bytes"

    for size in SIZES:
        for shape in [(size,), (0, size), (size, size), (1, size)]:
            name = f"shape{size}-{len(shape)}{shape[0]}.npz"
            yield name, archive(("w.npy", claiming(shape))), "array 'w': it"
    yield "shape-fits.npz", archive(("w.npy", claiming((10**9,), 10**6))), "expected 4000000000"
    yield "dimensions.npz", archive(("w.npy", claiming((1,) * 40, 4))), "has 40 dimensions"
    yield "longer.npz", archive(("w.npy", W + b"\0")), "holds 25 bytes of numbers; expected 24"
    for length in (0, 1, 2**15, 2**16 - 1):
        content = archive(("w.npy", patched(W, 8, "<H", length)))
        yield f"header{length}.npz", content, "array 'w': its .npy header is"
    for name, header in {"deep": b"(" * 60_000, "unary": b"-" * 60_000, "code": b"exit()"}.items():
        member = W[:8] + struct.pack("<H", len(header)) + header
        yield f"{name}.npz", archive(("w.npy", member)), "array 'w': its .npy header is"

    for length in (0, 1, *(size for size in SIZES if size > 0)):
        content = tensors(OURS | {"w": tensor()}, b"1234", length)
        yield f"length{length}.safetensors", content, "damaged|header claims"
    yield "empty.safetensors", b"", "JSON is damaged"
    yield "large.safetensors", tensors(b" " * 2**21), "header claims 2097152 bytes"
    yield "deep.safetensors", tensors(b'{"a":' * 100_000), "deeper than 64"
    objects = b'{"a":[' + b"{}," * 349_000 + b"{}]}"
    yield "objects.safetensors", tensors(objects), "no entry 'pycnn'"
    yield "meta.safetensors", tensors({"__metadata__": []}), "no entry 'pycnn'"
    yield "meta-deep.safetensors", tensors({"__metadata__": {"pycnn": "[" * 10**6}}), "deeper than"
    yield "surrogate.safetensors", tensors({"__metadata__": {"pycnn": "\ud800"}}), "damaged"
    yield "crc.safetensors", tensors(OURS | {"w": tensor()}, b"1234"), "checksum"
    yield "list.safetensors", tensors(OURS | {"w": []}), "has dtype None; expected 'F32'"
    yield "name.safetensors", tensors(OURS | {"../w": tensor()}, b"1234"), "an array is named"
    pair = b'"w":' + json.dumps(tensor()).encode()
    twice = json.dumps(OURS).encode()[:-1] + b"," + pair + b"," + pair + b"}"
    yield "twice.safetensors", tensors(twice, b"1234"), "key 'w' twice"
    for dtype in ("BF16", "F16", "I64", "F8_E5M2", "O", "", None, 3, []):
        name = f"dtype{dtype}.safetensors"
        yield name, tensors(OURS | {"w": tensor(dtype=dtype)}, b"1234"), "expected 'F32' or 'F64'"
    for shape in (None, "1", [1.0], [True], [-1], [[1]]):
        name = f"shape{shape!a}.safetensors"
        yield name, tensors(OURS | {"w": tensor(shape)}, b"1234"), "expected whole numbers"
    for size in SIZES[1:]:
        for shape in ([size], [0, size], [size, size], [1, size]):
            content = tensors(OURS | {"w": tensor(shape, 0, 0)})
            yield f"size{size}-{len(shape)}{shape[0]}.safetensors", content, "safetensors|too large"
    many = tensors(OURS | {"w": tensor([1] * 300_000)}, b"1234")
    yield "dimensions.safetensors", many, "300000 dimensions; expected at most 32"
    for start in (1, 4, *SIZES):
        content = tensors(OURS | {"w": tensor((1,), start, start + 4)}, b"1234")
        yield f"start{start}.safetensors", content, "not a whole safetensors file"
    both = OURS | {"a": tensor(), "b": tensor()}
    yield "overlap.safetensors", tensors(both, b"1234"), "not a whole safetensors file"
    yield "longer.safetensors", tensors(OURS | {"w": tensor()}, b"12345"), "not a whole safetensors"
    yield "hole.safetensors", tensors(OURS | {"w": tensor((1,), 4, 8)}, b"12345678"), "not a whole"


def test_hostile_files(tmp_path):
    files = list(hostile())
    assert len({name for name, _, _ in files}) == len(files)
    for name, content, _ in files:
        (tmp_path / name).write_bytes(content)
    sentences = json.loads(run_well(__file__, str(tmp_path), timeout=300))
    unexpected = [
        f"{name}: {sentences.get(name)}"
        for name, _, words in files
        if not any(word in sentences.get(name, "") for word in words.split("|"))
    ]
    assert not unexpected
    for name, sentence in sentences.items():
        assert name in sentence and "\n" not in sentence
        assert len(sentence) < len(str(tmp_path / name)) + 500, sentence


def read_all(folder):
    """Read every file of a folder with little memory, and print the sentences."""
    for suffix in SUFFIXES:  # import everything before the memory is counted
        write_model(folder / f"warm-up{suffix}", CONFIG, ARRAYS)
        read_model(folder / f"warm-up{suffix}")
        (folder / f"warm-up{suffix}").unlink()
    if "ASAN_OPTIONS" not in os.environ:
        used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        hard = resource.getrlimit(resource.RLIMIT_AS)[1]
        resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, hard))
    sentences = {}
    for path in sorted(folder.iterdir()):
        try:
            read_model(path)
        except ValueError as error:
            sentences[path.name] = str(error)
    print(json.dumps(sentences))


def test_reading_takes_the_memory_of_the_arrays(tmp_path):
    """The number of bytes at the peak, beside those of the file."""
    write_model(tmp_path / "net.npz", {}, {f"w{i}": np.ones(2**21, "f4") for i in range(4)})
    write_model(tmp_path / "net.safetensors", {}, {"w": np.ones(2**23, "f4")})
    script = (
        "import sys, tracemalloc; from pycnn._model_files import read_model, write_model\n"
        "import safetensors.numpy; tracemalloc.start(); read_model(sys.argv[1])\n"
        "print(tracemalloc.get_traced_memory()[1])"
    )
    for suffix, times in {".npz": 1.1, ".safetensors": 2.1}.items():
        path = tmp_path / f"net{suffix}"
        assert int(run_well("-c", script, str(path))) < times * path.stat().st_size


if __name__ == "__main__":
    read_all(Path(sys.argv[1]))
