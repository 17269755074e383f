"""Pictures of every kind as samples of one shape; folders of classes."""

import os

import numpy as np
import PIL.Image
import pytest
from hypothesis import given
from hypothesis import strategies as st

import pycnn
from pycnn import _pictures
from pycnn._files import Problem

SIDES = st.integers(1, 40)


@given(SIDES, SIDES, SIDES, SIDES, st.sampled_from([(), (1,), (3,)]))
def test_resizing_keeps_even_grounds_and_bounds(height, width, new_height, new_width, channels):
    size = (new_height, new_width)
    image = np.random.default_rng(0).random((height, width, *channels), dtype=np.float32)
    result = _pictures.resized(image, size)
    assert result.shape == (*size, *channels)
    assert result.dtype == np.float32
    assert image.min() - 1e-6 <= result.min() <= result.max() <= image.max() + 1e-6
    np.testing.assert_allclose(_pictures.resized(np.full_like(image, 0.3), size), 0.3, rtol=1e-6)


def test_resizing_weighs_all_pixels_and_keeps_the_sides_apart():
    stripes = np.tile(np.float32([0, 1]), (64, 32))
    np.testing.assert_allclose(_pictures.resized(stripes, (8, 8)), 0.5, atol=0.1)
    half = np.zeros((60, 30, 3), np.float32)
    half[:20, :, 1] = 1
    small = _pictures.resized(half, (6, 3))
    np.testing.assert_allclose(small[0, :, 1], 1, atol=1e-6)
    np.testing.assert_array_equal(small[3:], 0)
    np.testing.assert_array_equal(small[:, :, [0, 2]], 0)


def written(tmp_path, mode, **options):
    """A picture in a mode of Pillow's, red in its upper half where the mode has colours."""
    pixels = np.full((16, 8, 4), 255, np.uint8)
    pixels[:8, :, 1:3] = 0
    picture = PIL.Image.fromarray(pixels)
    if mode == "I;16":
        picture = PIL.Image.fromarray(np.asarray(picture.convert("L")).astype(np.uint16) * 257)
    elif mode != "RGBA":
        picture = picture.convert("RGB").convert(mode)
    path = tmp_path / f"{mode.replace(';', '')}.png"
    picture.save(path, **options)
    return path


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P", "L", "LA", "I;16", "1"])
def test_every_kind_of_picture_becomes_grey_or_coloured(tmp_path, mode):
    path = written(tmp_path, mode)
    grey = _pictures.sample(path, (4, 4))
    colours = _pictures.sample(path, (4, 4, 3))
    assert (grey.shape, colours.shape) == ((4, 4), (4, 4, 3))
    np.testing.assert_allclose(grey[3], 1, rtol=1e-5)
    assert grey[0].max() < 1
    if mode in ("RGB", "RGBA", "P"):
        np.testing.assert_allclose(colours[0], [[1, 0, 0]] * 4, atol=1e-5)
    else:
        np.testing.assert_array_equal(colours, np.repeat(grey[..., None], 3, axis=2))


def test_a_photograph_stands_upright(tmp_path):
    path = written(tmp_path, "RGB")
    exif = PIL.Image.Exif()
    exif[0x0112] = 6  # turn it by 90 degrees to the right
    with PIL.Image.open(path) as picture:
        picture.rotate(90, expand=True).save(tmp_path / "turned.png", exif=exif)
    expected = _pictures.sample(path, (8, 8, 3))
    np.testing.assert_array_equal(_pictures.sample(tmp_path / "turned.png", (8, 8, 3)), expected)


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (np.nan, "no finite numbers"),
        (np.inf, "no finite numbers"),
        (3e38, "pixels from 1 to 3e[+]38; expected 0 to 1"),
        (-3.4028235e38, "pixels from -3.40282e[+]38 to 1; expected 0 to 1"),
    ],
)
def test_pixels_that_are_no_numbers_from_0_to_1(tmp_path, value, words):
    pixels = np.ones((4, 4), np.float32)
    pixels[2, 1] = value
    PIL.Image.fromarray(pixels).save(tmp_path / "f.tiff")
    with pytest.raises(Problem, match=rf"cannot read '.*f\.tiff': .*{words}"):
        _pictures.sample(tmp_path / "f.tiff", (3, 3))


# --- Folders -------------------------------------------------------------------------------


def test_classes_are_the_sub_folders_and_what_lies_below(tmp_path):
    for name in ("b/2", "b/10", "b/deep/er/2", "a/2", "a/.hidden", ".git/x", "loose", "b/.d/x"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "empty").mkdir()
    (tmp_path / "a" / "round").symlink_to(tmp_path, target_is_directory=True)
    (tmp_path / "c").symlink_to(tmp_path / "a", target_is_directory=True)
    classes, files, left_out = _pictures.class_folders(tmp_path)
    assert classes == ["a", "b", "c", "empty"]
    assert [(path.relative_to(tmp_path).as_posix(), label) for path, label in files] == [
        ("a/2", 0),
        ("b/10", 1),
        ("b/2", 1),
        ("b/deep/er/2", 1),
        ("c/2", 2),
    ]
    assert left_out == []


def test_folders_that_cannot_be_read(tmp_path, monkeypatch):
    (tmp_path / "a" / "locked").mkdir(parents=True)
    (tmp_path / "a" / "1").touch()
    scandir = os.scandir

    def locked(path):
        if str(path).endswith("locked"):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", locked)
    found = _pictures.class_folders(tmp_path)
    assert len(found.files) == 1
    (sentence,) = found.left_out
    assert sentence == f"cannot read the folder '{tmp_path}/a/locked': Permission denied"
    for name in ("a/locked", "missing", "a/1", "nul\0"):
        with pytest.raises(Problem, match="cannot read the folder "):
            _pictures.class_folders(tmp_path / name)


# --- Models --------------------------------------------------------------------------------

METADATA = {"classes": ["a", "b"], "preprocessing": _pictures.PREPROCESSING}


def network(shape=(4, 4), metadata=METADATA, n=2):
    return pycnn.Sequential(
        [pycnn.Flatten(), pycnn.Dense(n, activation="softmax")],
        input_shape=shape,
        metadata=metadata,
    )


def test_classes_of_a_model():
    assert _pictures.classes_of(network()) == ["a", "b"]
    assert _pictures.classes_of(network((4, 5, 3))) == ["a", "b"]


@pytest.mark.parametrize(
    ("model", "sentence"),
    [
        (pycnn.Sequential([pycnn.ReLU()], metadata=METADATA), r"inputs of shape \(\)"),
        (network((4, 4, 1)), r"inputs of shape \(4, 4, 1\)"),
        (network((16,)), r"inputs of shape \(16,\)"),
        (network(metadata=None), "no names of classes"),
        (network(metadata=METADATA | {"classes": "ab"}), "no names of classes"),
        (network(metadata=METADATA | {"classes": ["a", 1]}), "no names of classes"),
        (network(metadata=METADATA | {"classes": ["a", "a"]}), "1 different names"),
        (network(n=3), r"2 different names of classes for results of shape \(3,\)"),
        (network(metadata={"classes": ["a", "b"]}), "preprocessing None"),
        (network(metadata=METADATA | {"preprocessing": {"range": [-1, 1]}}), r"\[-1, 1\]"),
        (pycnn.Sequential([pycnn.ReLU()], input_shape=(2, 2), metadata=METADATA), r"\(2, 2\)"),
    ],
)
def test_networks_that_classify_no_pictures(model, sentence):
    with pytest.raises(Problem, match=sentence):
        _pictures.classes_of(model)


def test_a_link_to_itself_is_left_out(tmp_path):
    for name in ("a/1", "b/1"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).touch()
    (tmp_path / "x").symlink_to("x")
    classes, files, left_out = _pictures.class_folders(tmp_path)
    assert classes == ["a", "b"]
    assert len(files) == 2
    assert len(left_out) == 1
    assert "x'" in left_out[0]
