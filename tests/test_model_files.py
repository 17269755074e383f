"""Saved networks come back as they were, or the file is refused with a sentence."""

import io
import json
import os
import struct
import sys
import zipfile
import zlib
from pathlib import Path

import hypothesis.extra.numpy as hnp
import numpy as np
import pytest
import safetensors.numpy
from children import run_well
from hypothesis import assume, given
from hypothesis import strategies as st

from pycnn import _model_files
from pycnn._model_files import MAX_NAME, read_model, write_model

SUFFIXES = [".npz", ".safetensors"]
CONFIG = {"layers": [{"name": "conv1", "stride": 2}, {"name": "pool", "size": [2, 2]}]}
ARRAYS = {"conv1/filters": np.arange(12, dtype="f4").reshape(3, 2, 2), "conv1/bias": np.ones(3)}

each_suffix = pytest.mark.parametrize("suffix", SUFFIXES)


def same(one, other):
    (config, arrays), (config2, arrays2) = one, other
    return (
        config == config2
        and list(arrays) == list(arrays2)
        and all(
            a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()
            for a, b in zip(arrays.values(), arrays2.values(), strict=True)
        )
    )


def saved(suffix, folder, config=CONFIG, arrays=ARRAYS):
    path = folder / f"whole{suffix}"
    write_model(path, config, arrays)
    return path.read_bytes()


# --- Round trips ---------------------------------------------------------------------------

NAMES = st.text(st.characters(exclude_characters="\\:", exclude_categories=["C", "Z"]), min_size=1)
PATHS = st.lists(NAMES, min_size=1, max_size=3).map("/".join)
FLOATS = st.sampled_from(["<f4", ">f4", "<f8", ">f8"]).flatmap(
    lambda dtype: hnp.arrays(
        dtype, hnp.array_shapes(min_dims=0, max_dims=5, min_side=0, max_side=4)
    )
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=[])),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=8,
)  # fmt: skip


def is_name(name):
    harmless = name.isprintable() and not {"", ".", ".."} & set(name.split("/"))
    return harmless and len(name) <= MAX_NAME


@each_suffix
@given(
    config=st.dictionaries(st.text(), JSON, max_size=4),
    arrays=st.dictionaries(PATHS.filter(is_name), FLOATS, max_size=4),
    transposed=st.booleans(),
)
def test_round_trip(tmp_path_factory, suffix, config, arrays, transposed):
    assume("__metadata__" not in arrays)
    if transposed:
        arrays = {name: array.T for name, array in arrays.items()}
    path = tmp_path_factory.mktemp("net") / f"net{suffix}"
    write_model(path, config, arrays)
    read = read_model(path)
    native = {name: arrays[name].astype(arrays[name].dtype.newbyteorder("=")) for name in arrays}
    assert same(read, (config, dict(sorted(native.items()))))
    for array in read[1].values():
        assert array.dtype.isnative and array.flags.c_contiguous and array.flags.aligned

    if suffix == ".npz":
        with np.load(path, allow_pickle=False) as theirs:
            for name, array in native.items():
                np.testing.assert_array_equal(theirs[f"{name}.npy"], array)
            assert len(theirs.files) == len(arrays) + 1
    else:
        theirs = safetensors.numpy.load_file(path)
        assert theirs.keys() == arrays.keys()
        for name, array in native.items():
            np.testing.assert_array_equal(theirs[name], array)


@each_suffix
def test_views_are_saved_as_they_look(tmp_path, suffix):
    base = np.arange(24.0).reshape(2, 3, 4)
    views = {
        "flip": base[::-1],
        "column": base[:, :, 1],
        "wide": np.broadcast_to(base[0], (5, 3, 4)),
    }
    write_model(tmp_path / f"net{suffix}", {}, views)
    _, read = read_model(tmp_path / f"net{suffix}")
    for name, view in views.items():
        np.testing.assert_array_equal(read[name], view)


@each_suffix
def test_the_same_network_gives_the_same_bytes(tmp_path, suffix, monkeypatch):
    first = saved(suffix, tmp_path)
    monkeypatch.setattr("time.time", lambda: 2e9)
    assert saved(suffix, tmp_path, arrays=dict(reversed(ARRAYS.items()))) == first
    script = (
        "import sys; sys.path.insert(0, sys.argv[2]); import test_model_files as t; from pathlib "
        "import Path; sys.stdout.write(t.saved(sys.argv[1], Path(sys.argv[3])).hex())"
    )
    for seed in ("1", "2"):
        here = str(Path(__file__).parent)
        text = run_well("-c", script, suffix, here, str(tmp_path), PYTHONHASHSEED=seed)
        assert bytes.fromhex(text) == first


@each_suffix
def test_special_numbers_keep_their_bits(tmp_path, suffix):
    bits = np.array([0x7FC00001, 0xFFC00000, 0x80000000, 0x00000001, 0x7F800000], np.uint32)
    write_model(tmp_path / f"net{suffix}", {}, {"w": bits.view(np.float32)})
    _, arrays = read_model(tmp_path / f"net{suffix}")
    np.testing.assert_array_equal(arrays["w"].view(np.uint32), bits)


def test_many_arrays_and_a_long_config(tmp_path):
    arrays = {f"layer{i}/filters": np.full(i % 3, i, np.float32) for i in range(2000)}
    config = {"classes": [f"class number {i}" for i in range(20_000)]}
    for suffix in SUFFIXES:
        write_model(tmp_path / f"net{suffix}", config, arrays)
        assert same(read_model(tmp_path / f"net{suffix}"), (config, dict(sorted(arrays.items()))))


# --- The layout, by hand -------------------------------------------------------------------


def description(**changes):
    return json.dumps({"version": 1, "config": CONFIG} | changes).encode()


def by_hand(path, text=None, **arrays):
    text = description() if text is None else text
    np.savez(path, __metadata__=np.frombuffer(text, np.uint8), **arrays)


def test_what_numpy_writes_is_read(tmp_path):
    filters = np.asfortranarray(np.arange(6.0).reshape(2, 3))
    by_hand(tmp_path / "net.npz", filters=filters, bias=np.array(1, ">f4"))
    config, arrays = read_model(tmp_path / "net.npz")
    assert config == CONFIG
    assert list(arrays) == ["bias", "filters"]
    np.testing.assert_array_equal(arrays["filters"], filters)
    assert arrays["bias"].dtype == np.float32 and arrays["bias"].dtype.isnative


def test_the_layout_of_an_npz():
    """Pinned: networks of today are read tomorrow."""
    stream = io.BytesIO()
    _model_files._write_npz(stream, {"version": 1, "config": {}}, {"w": np.ones(2, "<f4")})
    with zipfile.ZipFile(stream) as archive:
        assert archive.namelist() == ["__metadata__.npy", "w.npy"]
        assert {info.compress_type for info in archive.infolist()} == {zipfile.ZIP_STORED}
        assert {info.date_time for info in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}
        assert archive.read("__metadata__.npy").endswith(b'\n{"version":1,"config":{}}')
        header, numbers = archive.read("w.npy")[:128], archive.read("w.npy")[128:]
    assert header.startswith(b"\x93NUMPY\x01\x00v\x00{'descr': '<f4', 'fortran_order': False, ")
    assert numbers == struct.pack("<2f", 1, 1)


def test_the_layout_of_a_safetensors_file():
    stream = io.BytesIO()
    _model_files._write_safetensors(stream, {"version": 1, "config": {}}, {"w": np.ones(2, "<f4")})
    crc = zlib.crc32(b'{"version":1,"config":{}}' + b"w float32 (2,)" + struct.pack("<2f", 1, 1))
    header = {
        "__metadata__": {"pycnn": f'{{"crc32":{crc},"version":1,"config":{{}}}}'},
        "w": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]},
    }
    content = stream.getvalue()
    length = int.from_bytes(content[:8], "little")
    assert json.loads(content[8 : 8 + length]) == header
    assert content[8 + length :] == struct.pack("<2f", 1, 1)


# --- Arguments -----------------------------------------------------------------------------


def test_the_suffix_chooses_the_format(tmp_path):
    for name in ("net.h5", "net", "net.npz.pkl", ".npz", "", "net.NPZ"):
        suffix = os.path.splitext(name)[1]
        for call in (lambda p: write_model(p, {}, {}), read_model):
            with pytest.raises(ValueError, match="expected .npz or .safetensors") as caught:
                call(str(tmp_path / name) if name else name)
            assert f"ends in {suffix!r}" in str(caught.value)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "path", [None, 3, b"net.npz", ["net.npz"], io.BytesIO()], ids=lambda path: type(path).__name__
)
def test_what_is_no_path(path):
    for call in (lambda p: write_model(p, {}, {}), read_model):
        with pytest.raises(TypeError, match="path is a .*; expected str or os.PathLike"):
            call(path)


def test_what_no_file_can_be_called():
    for path in ("nul\0byte.npz", "\ud800.npz"):
        for call in (lambda p: write_model(p, {}, {}), read_model):
            with pytest.raises(ValueError, match="a character that no file's name can have"):
                call(path)


BAD_NAMES = [
    *["", "/w", "w/", "a//b", "../w", "a/../w", ".", "./w", "..", "\\w", "C:w", "a\0b", "a\nb"],
    *["w" * (MAX_NAME + 1), "__metadata__", "\ud800", "\u202e"],
]


@each_suffix
@pytest.mark.parametrize("name", BAD_NAMES, ids=lambda name: ascii(name)[:20])
def test_names_that_would_be_dangerous_elsewhere(tmp_path, suffix, name):
    with pytest.raises(ValueError, match="Sequential.save: arrays: an array is named") as caught:
        write_model(tmp_path / f"net{suffix}", {}, {name: np.ones(1)})
    assert repr(name[:200]) in str(caught.value)


@each_suffix
@pytest.mark.parametrize(
    ("config", "arrays", "kind", "words"),
    [
        ([], {}, TypeError, "config is a list; expected a dict"),
        ({"a": np.float32(1)}, {}, TypeError, "config: Object of type float32"),
        ({(1, 2): 1}, {}, TypeError, "config: keys must be str"),
        ({"a": float("nan")}, {}, ValueError, "config: it cannot be written as JSON"),
        ({1: 1, "1": 1}, {}, ValueError, "config: its JSON has the key '1' twice"),
        ({"a": "x" * 2**20}, {}, ValueError, "config: its JSON has .* at most 1048576"),
        ({}, [np.ones(1)], TypeError, "arrays is a list; expected a mapping"),
        ({}, {1: np.ones(1)}, TypeError, "arrays has the key 1; expected a str"),
        ({}, {"w": np.ones(1, int)}, TypeError, r"arrays\['w'\] has dtype int64; expected float32"),
        ({}, {"w": np.ones(1, "f2")}, TypeError, r"arrays\['w'\] has dtype float16"),
        ({}, {"w": np.array([None])}, TypeError, r"arrays\['w'\] has dtype object"),
        ({}, {"w": np.ma.ones(1)}, TypeError, r"arrays\['w'\] is a masked array"),
        ({}, {f"{i:0200}": np.ones(0) for i in range(5000)}, ValueError, "5000 names"),
    ],
    ids=lambda value: ascii(value)[:30],
)
def test_what_cannot_be_saved_leaves_the_old_file(tmp_path, suffix, config, arrays, kind, words):
    path = tmp_path / f"net{suffix}"
    write_model(path, CONFIG, ARRAYS)
    with pytest.raises(kind, match=f"^Sequential.save: .*{words}"):
        write_model(path, config, arrays)
    assert list(tmp_path.iterdir()) == [path]
    assert read_model(path)[0] == CONFIG


def test_without_safetensors_the_error_says_so(tmp_path, monkeypatch):
    content = saved(".safetensors", tmp_path)
    monkeypatch.setitem(sys.modules, "safetensors", None)
    monkeypatch.setitem(sys.modules, "safetensors.numpy", None)
    for call in (lambda p: write_model(p, {}, {}), read_model):
        with pytest.raises(ImportError, match=r'pip install "pycnn\[models\]"'):
            call(tmp_path / "whole.safetensors")
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [content]


def test_what_is_not_a_file(tmp_path):
    os.mkfifo(tmp_path / "pipe.npz")
    (tmp_path / "folder.npz").mkdir()
    (tmp_path / "zero.npz").symlink_to("/dev/zero")
    (tmp_path / "zero.safetensors").symlink_to("/dev/zero")
    for name, kind in {
        "pipe.npz": OSError,
        "zero.npz": OSError,
        "zero.safetensors": OSError,
        "folder.npz": IsADirectoryError,
        "missing.npz": FileNotFoundError,
        "missing.safetensors": FileNotFoundError,
    }.items():
        with pytest.raises(kind) as caught:
            read_model(tmp_path / name)
        assert name in str(caught.value)


# --- Interrupted saves ---------------------------------------------------------------------


class Failing:
    """A file that can be written to `left` times."""

    def __init__(self, stream, left, error):
        self.stream, self.left, self.error = stream, left, error

    def __getattr__(self, name):
        return getattr(self.stream, name)

    def write(self, data):
        if self.left == 0:
            raise self.error
        self.left -= 1
        return self.stream.write(data)


@each_suffix
@pytest.mark.parametrize(
    "error", [KeyboardInterrupt(), MemoryError(), OSError(28, "full")], ids=repr
)
def test_an_interrupted_save_leaves_the_old_file(tmp_path, suffix, error, monkeypatch):
    """Whichever write to the file it happens in."""
    path = tmp_path / f"net{suffix}"
    write_model(path, CONFIG, ARRAYS)
    form = _model_files._FORMATS[suffix]
    n_writes = 0
    for left in range(100):

        def write(stream, *args, left=left):
            form.write(Failing(stream, left, error), *args)

        monkeypatch.setitem(_model_files._FORMATS, suffix, form._replace(write=write))
        try:
            write_model(path, {"new": 1}, ARRAYS)
        except type(error):
            n_writes += 1
            assert list(tmp_path.iterdir()) == [path]
            assert read_model(path)[0] == CONFIG
        else:
            break
    assert n_writes >= 1
    assert read_model(path)[0] == {"new": 1}


# --- Damage --------------------------------------------------------------------------------


def outcome(path, content, whole):
    """Read a damaged file: 'same' or the sentence of the error."""
    path.write_bytes(content)
    try:
        read = read_model(path)
    except ValueError as error:
        sentence = str(error)
        assert sentence.startswith(f"cannot read a network from {str(path)!r}: "), sentence
        assert "\n" not in sentence and len(sentence) < len(str(path)) + 500
        return sentence
    assert same(read, whole)
    return "same"


SMALL = {"stride": 2}, {"w": np.ones(3, "f4")}


@each_suffix
def test_truncated_at_every_byte(tmp_path, suffix):
    content = saved(suffix, tmp_path, *SMALL)
    whole = read_model(tmp_path / f"whole{suffix}")
    for n_bytes in range(len(content)):
        assert outcome(tmp_path / f"damaged{suffix}", content[:n_bytes], whole) != "same"


@each_suffix
def test_damaged_at_every_byte(tmp_path, suffix):
    content = saved(suffix, tmp_path, *SMALL)
    whole = read_model(tmp_path / f"whole{suffix}")
    refused = 0
    for position in range(len(content)):
        for bit in (0, 5, 7):
            damaged = bytearray(content)
            damaged[position] ^= 1 << bit
            refused += outcome(tmp_path / f"damaged{suffix}", bytes(damaged), whole) != "same"
    # A zip archive says some things twice, or to nobody; safetensors says nothing in vain.
    assert refused >= (0.7 if suffix == ".npz" else 1) * 3 * len(content)


@each_suffix
@given(data=st.data())
def test_damaged_at_random(tmp_path_factory, suffix, data):
    folder = tmp_path_factory.mktemp("net")
    content = saved(suffix, folder)
    whole = read_model(folder / f"whole{suffix}")
    damaged = bytearray(content)
    numbers = [0, 1, 2**31 - 1, 2**31, 2**32 - 1, 2**63 - 1, 2**63, 2**64 - 1]
    for _ in range(data.draw(st.integers(1, 3))):
        start = data.draw(st.integers(0, len(damaged)))
        stop = data.draw(st.integers(start, min(len(damaged), start + 40)))
        piece = st.binary(max_size=12) | st.sampled_from(numbers).map(
            lambda n: struct.pack("<Q", n)
        )
        if data.draw(st.booleans()):  # instead, not between
            new = data.draw(piece)
            damaged[start : start + len(new)] = new
        else:
            damaged[start:stop] = data.draw(piece)
    outcome(folder / f"damaged{suffix}", bytes(damaged), whole)


@each_suffix
def test_a_newer_version(tmp_path, suffix, monkeypatch):
    monkeypatch.setattr(_model_files, "VERSION", 2)
    saved(suffix, tmp_path)
    assert read_model(tmp_path / f"whole{suffix}")[0] == CONFIG
    monkeypatch.setattr(_model_files, "VERSION", 1)
    with pytest.raises(
        ValueError, match=r"a newer pycnn wrote it, in version 2 .* up to version 1"
    ):
        read_model(tmp_path / f"whole{suffix}")


def test_files_of_others(tmp_path):
    np.savez(tmp_path / "net.npz", w=np.ones(3))
    with pytest.raises(ValueError, match="no member __metadata__.npy; expected a network that"):
        read_model(tmp_path / "net.npz")
    safetensors.numpy.save_file({"w": np.ones(3)}, tmp_path / "net.safetensors")
    with pytest.raises(ValueError, match="no entry 'pycnn'; expected a network that"):
        read_model(tmp_path / "net.safetensors")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (b"[]", "expected an object"),
        (b"{}", "has no version and config"),
        (description(version=0), "has no version and config"),
        (description(version=True), "has no version and config"),
        (description(version="1"), "has no version and config"),
        (description(config=[]), "has no version and config"),
        (description(version=10**30), "a newer pycnn wrote it"),
        (description(config={"a": float("nan")}), "number NaN"),
        (b"[" * 100_000, "nested deeper than 64"),
        (b" " * 2**20 + description(), "at most 1048576"),
        (b"\x80\x04N.", "is damaged"),
    ],
    ids=lambda value: ascii(value)[:30],
)
def test_descriptions_that_are_none(tmp_path, text, words):
    by_hand(tmp_path / "net.npz", text, w=np.ones(3))
    with pytest.raises(ValueError, match=words):
        read_model(tmp_path / "net.npz")


@pytest.mark.parametrize(
    "array",
    [
        np.ones(2, int), np.ones(2, "f2"), np.ones(2, bool), np.ones(2, complex),
        np.ones(2, np.longdouble), np.array(["a"]), np.zeros(2, "f4,f4"), np.array([None]),
    ],
    ids=lambda array: str(array.dtype),
)  # fmt: skip
def test_arrays_of_other_dtypes(tmp_path, array):
    by_hand(tmp_path / "net.npz", filters=array)  # None: NumPy pickles it
    with pytest.raises(ValueError, match=r"array 'filters'.*; expected"):
        read_model(tmp_path / "net.npz")


def test_a_pickle_is_not_run(tmp_path):
    class Bomb:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "it ran",))

    by_hand(tmp_path / "net.npz", filters=np.array([Bomb()]))
    with pytest.raises(ValueError, match=r"dtype is '\|O'; expected"):
        read_model(tmp_path / "net.npz")
    assert [path.name for path in tmp_path.iterdir()] == ["net.npz"]
