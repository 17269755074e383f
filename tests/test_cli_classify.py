"""What the command classify says to models of all kinds."""

import os
import re
from pathlib import Path

import numpy as np
import pytest
import skimage.io
from commands import run
from sklearn.datasets import load_digits

import pycnn
from pycnn import _pictures, cli
from pycnn._model_files import read_model, write_model
from pycnn.layers import _model

METADATA = {"classes": ["a", "b"], "preprocessing": _pictures.PREPROCESSING}


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path, monkeypatch):
    """Run every test where it can leave nothing behind."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")


def digit(i, name="digit.png"):
    pixels = np.rint(load_digits().images[i] / 16 * 255).astype(np.uint8)
    skimage.io.imsave(name, pixels, check_contrast=False)
    return name


def save_models():
    """Make the models that the refused commands below name."""
    layers = [pycnn.Flatten(), pycnn.Dense(2, activation="softmax", seed=0)]
    good = pycnn.Sequential(layers, input_shape=(4, 4), metadata=METADATA)
    good.save("good.npz")
    content = Path("good.npz").read_bytes()
    Path("truncated.npz").write_bytes(content[:-30])
    Path("flipped.npz").write_bytes(content[:200] + bytes([content[200] ^ 1]) + content[201:])
    Path("text.npz").write_text("no model\n")
    Path("text.pkl").write_text("no model\n")
    Path("folder.npz").mkdir()
    pycnn.Sequential(layers, metadata=METADATA).save("unbuilt.npz")
    pycnn.Sequential(layers, input_shape=(4, 4)).save("nameless.npz")
    pycnn.Sequential([pycnn.Flatten()], input_shape=(1, 2), metadata=METADATA).save(
        "no_softmax.npz"
    )
    good[1].weights = np.full((16, 2), np.nan)
    good.save("nan.npz")
    with pytest.MonkeyPatch.context() as context:
        context.setattr("pycnn._model_files.VERSION", int("9" * 4000))
        good.save("future.npz")
    config, arrays = read_model("good.npz")
    write_model("unknown.npz", config | {"layers": [{"class": "Exec"}]}, arrays)
    for name, padding, side in (("bomb", 10**5, 9), ("huge", 0, 10**6), ("large", 0, 10_001)):
        wide = pycnn.Conv2D(2, 1, padding=padding, seed=0)
        stages = [wide, pycnn.GlobalMaxPool2D(), pycnn.Softmax()]
        network = pycnn.Sequential(stages, input_shape=(9, 9, 3), metadata=METADATA)
        config, arrays = _model.describe(network)
        write_model(f"{name}.npz", config | {"input_shape": [side, side, 3]}, arrays)


@pytest.mark.parametrize(
    ("model", "sentence"),
    {
        "missing.npz": "cannot read 'missing.npz': No such file",
        "folder.npz": "cannot read 'folder.npz': (Is a directory|not a regular file)",
        "truncated.npz": "cannot read a network from 'truncated.npz'",
        "flipped.npz": "cannot read a network from 'flipped.npz'",
        "text.npz": "cannot read a network from 'text.npz'",
        "text.pkl": r"the model 'text\.pkl' must end with \.npz or \.safetensors",
        "unknown.npz": "unknown class 'Exec'",
        "unbuilt.npz": r"cannot classify with 'unbuilt.npz': .* inputs of shape \(\)",
        "nameless.npz": "cannot classify with 'nameless.npz': .*no names of classes",
        "no_softmax.npz": "results are no probabilities",
        "nan.npz": "results are no probabilities",
        "bomb.npz": r"the result of conv2d_1 would hold 80,007,200,162 numbers",
        "huge.npz": "a picture would have 1,000,000 x 1,000,000 pixels; the most is 100,000,000",
        "large.npz": "a picture would have 10,001 x 10,001 pixels; the most is 100,000,000",
        "future.npz": "version a number of 13288 bits of the format",
        "": "the model '' has no name",
        "a\0.npz": r"the model 'a\\x00\.npz' has a character that no file's name can have",
    }.items(),
)
def test_classify_says_in_one_line_what_is_wrong_with_a_model(model, sentence, capsys):
    save_models()
    assert cli.main(["classify", "good.npz", digit(1)]) == 0
    capsys.readouterr()
    assert cli.main(["classify", model, "digit.png"]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert re.fullmatch(r"pycnn: [^\n]+\n", err)
    assert re.search(sentence, err)


def test_pictures_without_a_name_are_named_and_counted(capsys):
    save_models()
    assert cli.main(["classify", "good.npz", "", digit(1), "a\0b.png"]) == 1
    out, err = capsys.readouterr()
    assert re.fullmatch(r"digit\.png: [^\n]+\n", out)
    assert err.splitlines() == [
        "pycnn: the picture '' has no name",
        r"pycnn: the picture 'a\x00b.png' has a character that no file's name can have",
        "pycnn: 2 of 3 pictures could not be read",
    ]


def test_a_reader_of_stdout_that_goes_away_is_no_error():
    save_models()
    digit(1)
    reader, writer = os.pipe()
    os.close(reader)
    status, _, err = run("classify", "good.npz", "digit.png", stdout=writer)
    os.close(writer)
    assert (status, err) == (141, "")
