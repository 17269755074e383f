"""Reading files that nobody vouches for, and publishing results whole or not at all."""

import io
import os
import socket
import struct
import zlib
from pathlib import Path

import numpy as np
import PIL.Image
import PIL.ImageOps
import pytest
import tifffile
from skimage import color, data

from pycnn import _files
from pycnn._files import Problem, check_targets, publish, read_filters, read_image

RGB = data.chelsea()[40:120:2, 60:180:2]  # 40 x 60
GREY = RGB[:, :, 1]
FLOATS = GREY.astype(np.float32) * 3 - 7


def saved(image, path, **options):
    PIL.Image.fromarray(image).save(path, **options)


# --- Images --------------------------------------------------------------------------------


def rgb16(path):
    tifffile.imwrite(path, RGB.astype(np.uint16) * 257, photometric="rgb")


def grey_alpha(path):
    saved(np.dstack([GREY, GREY[::-1]]), path)


def rgb_alpha(path):
    saved(np.dstack([RGB, GREY[::-1]]), path)


def over_white(colours, alpha):
    alpha = alpha / 255.0
    if colours.ndim == 3:
        alpha = alpha[..., np.newaxis]
    return colours / 255.0 * alpha + 1 - alpha


# How to write a file, and the pixels it holds, whole numbers counting as 0 to 1.
PICTURES = {
    "rgb.png": (lambda path: saved(RGB, path), RGB / 255),
    "grey.png": (lambda path: saved(GREY, path), GREY / 255),
    "grey16.png": (lambda path: saved(GREY.astype(np.uint16) * 257, path), GREY / 255),
    "grey-alpha.png": (grey_alpha, over_white(GREY, GREY[::-1])),
    "rgb-alpha.png": (rgb_alpha, over_white(RGB, GREY[::-1])),
    "bilevel.png": (lambda path: saved(GREY > 100, path), (GREY > 100) * 1.0),
    "palette.png": (
        lambda path: PIL.Image.fromarray(GREY).convert("P").save(path),
        np.dstack([GREY] * 3) / 255,
    ),
    "rgb.bmp": (lambda path: saved(RGB, path), RGB / 255),
    "rgb.ppm": (lambda path: saved(RGB, path), RGB / 255),
    "lossless.webp": (lambda path: saved(RGB, path, lossless=True), RGB / 255),
    "still.gif": (lambda path: saved(GREY, path), GREY / 255),
    "rgb.tif": (lambda path: saved(RGB, path), RGB / 255),
    "lzw.tif": (lambda path: saved(RGB, path, compression="tiff_lzw"), RGB / 255),
    "deflate.tiff": (lambda path: saved(RGB, path, compression="tiff_deflate"), RGB / 255),
    "fax.tif": (
        lambda path: saved(GREY > 100, path, compression="group4"),
        (GREY > 100) * 1.0,
    ),
    "rgb16.tif": (rgb16, RGB / 255),
    "float.tif": (lambda path: saved(FLOATS, path), FLOATS),
    "planes.tif": (
        lambda path: tifffile.imwrite(
            path, np.moveaxis(RGB, -1, 0), photometric="rgb", planarconfig="separate"
        ),
        RGB / 255,
    ),
    "a png by another.tif": (lambda path: saved(RGB, path, format="PNG"), RGB / 255),
    "no ending": (lambda path: saved(RGB, path, format="PNG"), RGB / 255),
    "name \u732b \udcff \n.png": (lambda path: saved(RGB, path, format="PNG"), RGB / 255),
}


@pytest.mark.parametrize("name", PICTURES, ids=ascii)
def test_pictures_of_every_kind(tmp_path, name):
    write, expected = PICTURES[name]
    write(tmp_path / name)

    grey = read_image(tmp_path / name)
    assert grey.dtype == np.float32
    assert grey.flags.c_contiguous
    as_grey = color.rgb2gray(expected) if expected.ndim == 3 else expected
    np.testing.assert_allclose(grey, as_grey, rtol=1e-6, atol=1e-6)

    rgb = read_image(tmp_path / name, rgb=True)
    assert rgb.dtype == np.float32
    as_rgb = expected if expected.ndim == 3 else np.dstack([expected] * 3)
    np.testing.assert_allclose(rgb, as_rgb, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("name", ["photo.jpg", "telephone.jpg"])
def test_jpeg(tmp_path, name):
    image = PIL.Image.fromarray(RGB)
    more = {"format": "MPO", "save_all": True, "append_images": [image]}
    image.save(
        tmp_path / name, quality=100, subsampling=0, **(more if name == "telephone.jpg" else {})
    )
    np.testing.assert_allclose(read_image(tmp_path / name, rgb=True), RGB / 255, atol=0.03)


@pytest.mark.parametrize("kind", ["jpg", "png", "tif"])
@pytest.mark.parametrize("turn", range(1, 9))
def test_the_picture_is_upright_as_in_a_viewer(tmp_path, kind, turn):
    path = tmp_path / f"turned.{kind}"
    exif = PIL.Image.Exif()
    exif[0x0112] = turn
    saved(RGB, path, exif=exif)
    with PIL.Image.open(path) as image:
        expected = np.asarray(PIL.ImageOps.exif_transpose(image)) / 255
    np.testing.assert_allclose(read_image(path, rgb=True), expected, atol=1e-6)
    assert expected.shape == ((40, 60, 3) if turn < 5 else (60, 40, 3))


def test_nan_and_infinity_of_a_float_picture_are_kept(tmp_path):
    image = FLOATS.copy()
    image[0, :3] = np.nan, np.inf, -np.inf
    saved(image, tmp_path / "odd.tif")
    np.testing.assert_array_equal(read_image(tmp_path / "odd.tif"), image)


def test_the_library_is_not_asked_for_an_address(monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError("the network was used")

    monkeypatch.setattr(socket, "socket", refuse)
    with pytest.raises(Problem, match="No such file"):
        read_image(Path("https://example.org/cat.png"))


def png_of_size(width, height):
    """Return a PNG file of a few bytes that claims any size."""

    def chunk(kind, content):
        check = zlib.crc32(kind + content)
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", check)

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    rows = zlib.compress(bytes(1000))
    return b"".join(
        [b"\x89PNG\r\n\x1a\n", chunk(b"IHDR", header), chunk(b"IDAT", rows), chunk(b"IEND", b"")]
    )


def encoded(kind, image=RGB, **options):
    stream = io.BytesIO()
    PIL.Image.fromarray(image).save(stream, format=kind, **options)
    return stream.getvalue()


def frames(kind):
    return encoded(kind, save_all=True, append_images=[PIL.Image.fromarray(RGB[::-1].copy())])


def in_mode(kind, mode):
    stream = io.BytesIO()
    PIL.Image.fromarray(RGB).convert(mode).save(stream, format=kind)
    return stream.getvalue()


def tiff(array):
    stream = io.BytesIO()
    tifffile.imwrite(stream, array)
    return stream.getvalue()


NOT_PICTURES = {
    "empty.png": (b"", "not a supported image"),
    "text.png": (b"hello, world\n" * 100, "not a supported image"),
    "script.py": (b"print('hello')\n", "not a supported image"),
    "array.npy": (b"\x93NUMPY\x01\x00" + bytes(200), "not a supported image"),
    "header-only.png": (encoded("PNG")[:20], "cannot read"),
    "half.png": (encoded("PNG")[:2000], "damaged"),
    "half.jpg": (encoded("JPEG")[:700], "damaged"),
    "half.tif": (encoded("TIFF")[:3000], "damaged"),
    "huge.png": (png_of_size(60_000, 60_000), "more than 100 million pixels"),
    "huger.png": (png_of_size(2**31 - 1, 2**31 - 1), "more than 100 million pixels"),
    "large.png": (png_of_size(10_001, 10_000), "more than 100 million pixels"),
    "large-enough.png": (png_of_size(10_000, 10_000), "damaged"),
    "empty-size.png": (png_of_size(0, 10), "cannot read"),
    "film.gif": (frames("GIF"), "holds 2 pictures"),
    "film.png": (frames("PNG"), "holds 2 pictures"),
    "film.webp": (frames("WEBP"), "holds 2 pictures"),
    "pages.tif": (frames("TIFF"), "holds 2 pictures"),
    "print.jpg": (in_mode("JPEG", "CMYK"), "CMYK"),
    "print.tif": (in_mode("TIFF", "CMYK"), "CMYK"),
    "lab.tif": (in_mode("TIFF", "LAB"), "LAB"),
    "complex.tif": (tiff(GREY.astype(np.complex64)), "cannot read"),
    "page.eps": (in_mode("EPS", "RGB"), "EPS is not a supported format"),
}


@pytest.mark.parametrize("name", NOT_PICTURES)
def test_what_is_not_one_picture_is_refused(tmp_path, name, capfd, recwarn):
    content, words = NOT_PICTURES[name]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(Problem, match=words) as caught:
        read_image(tmp_path / name)
    assert name in str(caught.value)
    assert "\n" not in str(caught.value)
    assert capfd.readouterr() == ("", "")
    assert not recwarn.list


def test_what_is_not_a_file_is_refused(tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "dangling").symlink_to("nowhere")
    (tmp_path / "loop").symlink_to("loop")
    places = {
        tmp_path / "folder": "Is a directory",
        tmp_path / "dangling": "No such file",
        tmp_path / "loop": "symbolic link",
        tmp_path / "missing": "No such file",
        tmp_path / "folder" / "missing": "No such file",
        tmp_path / ("x" * 300): "too long",
        tmp_path / "nul\0byte": "null",
        Path(os.devnull): "not a regular file",
    }
    for read in (read_image, lambda path: read_filters(path, channels=None)):
        for path, words in places.items():
            with pytest.raises(Problem, match=words):
                read(path)


def test_a_pipe_is_refused_at_once(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(Problem, match="not a regular file"):
        read_image(tmp_path / "pipe")


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF", "GIF", "WEBP", "BMP"])
def test_damaged_pictures_are_read_or_refused(tmp_path, kind, capfd):
    image = RGB[:12, :16]
    whole = encoded(kind, image)
    rng = np.random.default_rng(0)
    damaged = [whole[:n] for n in range(0, len(whole), max(1, len(whole) // 60))]
    for _ in range(60):
        flipped = bytearray(whole)
        flipped[rng.integers(len(whole))] ^= 1 << rng.integers(8)
        damaged.append(bytes(flipped))
    path = tmp_path / "damaged"
    refused = []
    for content in damaged:
        path.write_bytes(content)
        try:
            pixels = read_image(path, rgb=True)
        except Problem as problem:
            refused.append(str(problem))
        else:
            assert pixels.shape == (*pixels.shape[:2], 3)
            assert pixels.dtype == np.float32
    assert len(refused) >= 30
    assert not any("\n" in line for line in refused)
    assert capfd.readouterr().err == ""


# --- Filters -------------------------------------------------------------------------------


def npy(array, **options):
    stream = io.BytesIO()
    np.save(stream, array, **options)
    return stream.getvalue()


def npy_claiming(shape, descr="<f4"):
    stream = io.BytesIO()
    header = {"descr": descr, "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(stream, header)
    return stream.getvalue() + bytes(64)


def npy_with_header(header):
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + bytes(64)


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("dtype", ["?", "i1", "<u2", ">i8", "<f2", ">f4", "<f8"])
def test_filters_of_any_real_dtype(tmp_path, dtype, order):
    filters = np.arange(-9, 9).reshape(2, 3, 3).astype(dtype, order=order)
    np.save(tmp_path / "f.npy", filters)
    read = read_filters(tmp_path / "f.npy", channels=None)
    assert read.dtype == filters.dtype.newbyteorder("=")
    assert read.flags.c_contiguous
    np.testing.assert_array_equal(read, filters)


def test_filters_with_channels(tmp_path):
    np.save(tmp_path / "f.npy", np.ones((2, 3, 5, 3)))
    assert read_filters(tmp_path / "f.npy", channels=3).shape == (2, 3, 5, 3)


def archive():
    stream = io.BytesIO()
    np.savez(stream, np.ones((2, 3, 3)))
    return stream.getvalue()


WHOLE = npy(np.ones((2, 3, 3)))

NOT_FILTERS = {
    "empty.npy": (b"", r"begins with b''; expected"),
    "text.npy": (b"1 2 3\n" * 10, "begins with"),
    "image.png": (encoded("PNG"), "begins with"),
    "archive.npz": (archive(), "begins with"),
    "half.npy": (WHOLE[:-60], "holds 84 bytes of numbers; expected 144 for shape"),
    "header-only.npy": (WHOLE[:128], "holds 0 bytes"),
    "two.npy": (WHOLE + WHOLE, "holds 416 bytes"),
    "half-header.npy": (WHOLE[:50], "header is"),
    "version.npy": (WHOLE[:6] + b"\x09" + WHOLE[7:], "begins with"),
    "code.npy": (WHOLE.replace(b"'<f8'", b"f( )!"), "header is"),
    "deep.npy": (npy_with_header(b"(" * 5000), "header is"),
    "minus.npy": (npy_with_header(b"-" * 60_000 + b"1"), "header is"),
    "pickle.npy": (npy(np.array([[[None]]]), allow_pickle=True), r"dtype is '\|O'"),
    "enormous.npy": (npy_claiming((2**40, 3, 3)), "holds 64 bytes"),
    "overflowing.npy": (npy_claiming((2**62, 2**62, 4)), "is too large"),
    "empty-overflowing.npy": (npy_claiming((2**62, 0, 4)), "is too large"),
    "dimensions.npy": (npy_claiming((1,) * 33), "has 33 dimensions; expected at most 32"),
    "negative.npy": (npy_claiming((-1, 3, 3)), "header is"),
    "text-shape.npy": (npy_claiming(("a", 3, 3)), "header is"),
    "complex.npy": (npy(np.ones((2, 3, 3), complex)), "dtype is '<c16'; expected"),
    "strings.npy": (npy(np.full((2, 3, 3), "a")), "dtype is '<U1'; expected"),
    "dates.npy": (npy(np.zeros((2, 3, 3), "M8[s]")), r"dtype is '<M8\[s\]'; expected"),
    "records.npy": (npy(np.zeros((2, 3, 3), "f4,f4")), "header is"),
    "long.npy": (npy(np.ones((2, 3, 3), np.longdouble)), "dtype is '<f16'; expected"),
    "one.npy": (npy(np.ones((3, 3))), r"have shape \(3, 3\), not \(F, KH, KW\)$"),
    "scalar.npy": (npy(np.ones(())), r"have shape \(\), not"),
    "none.npy": (npy(np.ones((0, 3, 3))), r"have shape \(0, 3, 3\), not"),
    "colour.npy": (npy(np.ones((2, 3, 3, 3))), "a colour image needs --rgb"),
}


@pytest.mark.parametrize("name", NOT_FILTERS)
def test_what_are_not_filters_is_refused(tmp_path, name):
    content, words = NOT_FILTERS[name]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(Problem, match=words) as caught:
        read_filters(tmp_path / name, channels=None)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("shape", [(2, 3, 3), (2, 3, 3, 4), (2, 3, 3, 1), (1, 2, 3, 3, 3)])
def test_filters_must_fit_the_colours(tmp_path, shape):
    np.save(tmp_path / "f.npy", np.ones(shape))
    with pytest.raises(Problem, match=r"not \(F, KH, KW, 3\)$"):
        read_filters(tmp_path / "f.npy", channels=3)


def test_every_truncation_of_a_filter_file_is_refused(tmp_path):
    for n_bytes in range(len(WHOLE)):
        (tmp_path / "f.npy").write_bytes(WHOLE[:n_bytes])
        with pytest.raises(Problem, match=r"as an \.npy file"):
            read_filters(tmp_path / "f.npy", channels=None)


# --- Results -------------------------------------------------------------------------------


def listing(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def test_files_are_published_with_their_folders(tmp_path):
    publish(
        {
            tmp_path / "a" / "b" / "one": lambda stream: stream.write(b"1"),
            tmp_path / "a" / "two": lambda stream: stream.write(b"2"),
        }
    )
    assert listing(tmp_path) == ["a", "a/b", "a/b/one", "a/two"]
    assert (tmp_path / "a" / "b" / "one").read_bytes() == b"1"


def test_a_link_keeps_pointing_to_its_file(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "link").symlink_to("elsewhere/file")
    publish({tmp_path / "link": lambda stream: stream.write(b"1")})
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "elsewhere" / "file").read_bytes() == b"1"


@pytest.mark.parametrize(
    "error",
    [OSError(28, "No space left on device"), MemoryError(), KeyboardInterrupt(), ValueError()],
    ids=repr,
)
def test_when_one_file_cannot_be_written_none_is(tmp_path, error):
    (tmp_path / "old").write_bytes(b"old")

    def fail(stream):
        stream.write(b"half of")
        raise error

    writers = {
        tmp_path / "old": lambda stream: stream.write(b"new"),
        tmp_path / "made" / "for" / "this": fail,
    }
    expected = Problem if isinstance(error, OSError) else type(error)
    with pytest.raises(expected):
        publish(writers)
    assert listing(tmp_path) == ["old"]
    assert (tmp_path / "old").read_bytes() == b"old"


@pytest.mark.parametrize("function", ["replace", "mkdir"])
def test_a_forbidden_folder_is_named(tmp_path, monkeypatch, function):
    def forbid(path, *args, **kwargs):
        raise PermissionError(13, "Permission denied", path)

    # Not by the folder's mode, which a super-user's tests would not feel.
    monkeypatch.setattr(os, function, forbid)
    with pytest.raises(Problem, match=r"cannot write '.*(file|new)': Permission denied"):
        publish({tmp_path / "new" / "file": lambda stream: stream.write(b"1")})
    monkeypatch.undo()
    assert listing(tmp_path) == []


def test_a_folder_somebody_else_has_used_is_kept(tmp_path):
    def fail(stream):
        (tmp_path / "made" / "theirs").write_bytes(b"1")
        raise OSError(28, "No space left on device")

    with pytest.raises(Problem, match="No space left"):
        publish({tmp_path / "made" / "ours": fail})
    assert listing(tmp_path) == ["made", "made/theirs"]


def test_inputs_that_cannot_be_reached_are_no_targets(tmp_path, monkeypatch):
    realpath = os.path.realpath

    def locked(path, **options):
        if "locked" in str(path):
            raise PermissionError(13, "Permission denied", str(path))
        return realpath(path, **options)

    monkeypatch.setattr(os.path, "realpath", locked)
    (tmp_path / "here").touch()
    inputs = [tmp_path / "locked" / "cwd", tmp_path / "here"]
    check_targets([tmp_path / "new"], inputs)
    with pytest.raises(Problem, match="would overwrite the input"):
        check_targets([tmp_path / "here"], inputs)


def test_targets_that_must_not_be_replaced(tmp_path):
    (tmp_path / "input").write_bytes(b"1")
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to("input")
    (tmp_path / "null").symlink_to(os.devnull)
    refused = {
        tmp_path / "input": "would overwrite the input",
        tmp_path / "folder" / ".." / "input": "would overwrite the input",
        tmp_path / "link": "would overwrite the input",
        tmp_path / "folder": "Is a directory",
        tmp_path / "null": "not a regular file",
        Path(os.devnull): "not a regular file",
        tmp_path / "input" / "inside": "Not a directory",
        tmp_path / ("x" * 300): "too long",
        tmp_path / "nul\0byte": "null",
    }
    for target, words in refused.items():
        with pytest.raises(Problem, match=words):
            check_targets([tmp_path / "fine", target], [tmp_path / "input"])
    with pytest.raises(Problem, match=r"would overwrite '.*twice'"):
        check_targets([tmp_path / "twice", tmp_path / "folder" / ".." / "twice"], [])
    check_targets([tmp_path / "one", tmp_path / "new" / "two"], [tmp_path / "input"])


def test_the_limit_is_above_the_largest_cameras():
    assert _files.MAX_PIXELS >= 100_000_000
