"""The commands train and classify together, and what train says to everything else."""

import io
import json
import os
import pty
import re
import subprocess
import sys
import termios
import warnings
from itertools import pairwise
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
from commands import (
    environment,
    interrupt_after,
    listing,
    run,
    run_on_a_full_disk,
    run_without,
    start,
)
from test_cli_classify import digit

import pycnn
from pycnn import _pictures, cli
from pycnn.cli._confusion import plot_confusion


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path, monkeypatch):
    """Run every test where it can leave nothing behind."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")


def stripes(rng, label, height, width):
    """An RGB picture of lines, upright for class 0 and level for class 1, of any two colours."""
    wave = np.sin(np.arange(width if label == 0 else height) * rng.uniform(0.8, 1.2))
    wave = wave[np.newaxis] if label == 0 else wave[:, np.newaxis]
    dark, light = rng.integers(0, 100, 3), rng.integers(150, 256, 3)
    pixels = np.where(wave[..., np.newaxis] > 0, light, dark)
    return np.broadcast_to(pixels, (height, width, 3)).astype(np.uint8)


def make_folder(name="stripes", n=20, *, grey=False):
    """Make a folder of two classes, of pictures in many sizes, kinds and formats."""
    rng = np.random.default_rng(0)
    kinds = ["L"] if grey else ["RGB", "L", "RGBA", "P", "LA"]
    for label, cls in enumerate(["upright", "level"]):
        Path(name, cls, "more").mkdir(parents=True)
        for i in range(n):
            picture = PIL.Image.fromarray(stripes(rng, label, *rng.integers(30, 60, 2)))
            place = Path(name, cls) if i % 2 else Path(name, cls, "more")
            picture.convert(kinds[i % len(kinds)]).save(place / f"{i}.png")
    return name


# --- What they do --------------------------------------------------------------------------


def test_digits_are_learned_and_recognised():
    status, out, err = run("train", "--dataset", "digits", "-o", "d.npz", "--confusion", "d.png")
    assert (status, err) == (0, "")
    assert listing() == ["d.npz", "d.png"]
    share, right, n = re.search(r"accuracy +([\d.]+) \((\d+) of the (\d+) held out\)", out).groups()
    assert float(share) == pytest.approx(int(right) / int(n), abs=1e-4)
    assert float(share) >= 0.98
    assert re.search(r"1,437 to learn from, 360 held out \(0\.2 of each class, seed 0\)", out)
    assert out.endswith("wrote     d.npz\nwrote     d.png\n")
    with PIL.Image.open("d.png") as picture:
        picture.load()
        assert picture.format == "PNG"

    # Classifying needs NumPy and a reader of images.
    names = [digit(i, f"{i}.png") for i in range(10)]
    others = ["sklearn", "matplotlib", "tqdm", "pandas", "safetensors"]
    status, out, err = run_without(others, "classify", "d.npz", *names)
    assert (status, err) == (0, "")
    for i, line in enumerate(out.splitlines()):
        assert re.fullmatch(rf"{i}\.png: {i} [01]\.\d{{4}}(, \d 0\.\d{{4}}){{2}}", line)


def test_the_commands_in_the_readme():
    readme = Path(__file__).parents[1] / "README.md"
    section = readme.read_text("utf-8").partition("## Tell pictures apart")[2]
    (commands,) = re.findall(r"^```bash\n(.*?)^```$", section, re.DOTALL | re.M)[:1]
    here = 'python() { "$PYTHON" "$@"; }; pycnn() { python -m pycnn "$@"; }\n'
    done = subprocess.run(
        ["bash", "-euc", here + commands],
        env=environment(PYTHON=sys.executable),
        capture_output=True,
        text=True,
        check=True,
    )
    assert re.search(r"^accuracy +0\.9[89]", done.stdout, re.M)
    assert re.fullmatch(r"7\.png: 7 0\.99\d\d, .*", done.stdout.splitlines()[-1])
    assert listing() == ["7.png", "digits.npz", "digits.png"]


def test_the_model_is_a_network_like_any_other(capsys):
    assert cli.main(["train", make_folder(), "-o", "m.safetensors", "--size", "24"]) == 0
    assert "accuracy  1.0000 (8 of the 8 held out)" in capsys.readouterr().out
    assert cli.main(["classify", "m.safetensors", "--json", "stripes/level/1.png"]) == 0
    result = json.loads(capsys.readouterr().out)

    network = pycnn.Sequential.load("m.safetensors")
    assert network.metadata["classes"] == ["level", "upright"]
    assert network.input_shape == (24, 24, 3)
    probabilities = network(_pictures.sample(Path("stripes/level/1.png"), (24, 24, 3)))
    assert result["image"] == "stripes/level/1.png"
    assert result["class"] == "level"
    assert list(result["probabilities"]) == ["level", "upright"]
    np.testing.assert_allclose(list(result["probabilities"].values()), probabilities)


def test_the_same_seed_gives_the_same_file(capsys):
    folder = make_folder()
    printed = set()
    for name, seed in (("a.npz", "1"), ("b.npz", "1"), ("c.npz", "2")):
        assert cli.main(["train", folder, "-o", name, "--seed", seed, "--filters", "9"]) == 0
        printed |= set(re.findall("accuracy.*", capsys.readouterr().out))
    assert Path("a.npz").read_bytes() == Path("b.npz").read_bytes() != Path("c.npz").read_bytes()
    assert pycnn.Sequential.load("a.npz")[0].n_filters == 9


def test_grey_pictures_give_a_model_for_grey_pictures(capsys):
    assert cli.main(["train", make_folder(grey=True), "-o", "m.npz"]) == 0
    assert "40 of 40 files, 32 x 32 pixels, grey" in capsys.readouterr().out
    assert pycnn.Sequential.load("m.npz").input_shape == (32, 32)
    colours = stripes(np.random.default_rng(9), 1, 40, 50)
    PIL.Image.fromarray(colours).save("colours.png")
    assert cli.main(["classify", "m.npz", "colours.png"]) == 0
    assert capsys.readouterr().out.startswith("colours.png: level 0.9")


def test_what_is_no_picture_is_named_and_counted(capsys):
    folder = Path(make_folder())
    png = (folder / "level/1.png").read_bytes()
    (folder / "level/truncated.png").write_bytes(png[: len(png) // 2])
    (folder / "level/notes.txt").write_text("no picture\n")
    (folder / "level/empty.png").touch()
    (folder / "level/.DS_Store").touch()
    (folder / "beside.png").write_bytes(png)
    os.mkfifo(folder / "upright/pipe")
    (folder / "upright/nowhere.png").symlink_to("missing")
    frames = [PIL.Image.new("L", (9, 9), 40 * i) for i in range(3)]
    frames[0].save(folder / "upright/film.gif", save_all=True, append_images=frames[1:])
    PIL.Image.new("RGB", (1, 1)).save(folder / "upright/dot.png")
    assert cli.main(["train", str(folder), "-o", "m.npz"]) == 0
    out, err = capsys.readouterr()
    assert "41 of 47 files" in out
    *named, last = err.splitlines()
    assert last == "pycnn: 6 of 47 files could not be read"
    names = ("empty.png", "notes.txt", "truncated.png", "film.gif", "nowhere.png", "pipe")
    for name, line in zip(names, named, strict=True):
        assert re.fullmatch(rf"pycnn: skipped: cannot read '.*/{re.escape(name)}': .+", line)


def test_a_picture_that_cannot_be_read_among_others(capsys):
    assert cli.main(["train", make_folder(), "-o", "m.npz"]) == 0
    Path("broken.png").write_text("no picture\n")
    names = ["broken.png", "stripes/level/1.png", "missing.png"]
    capsys.readouterr()

    assert cli.main(["classify", "m.npz", *names]) == 1
    out, err = capsys.readouterr()
    assert re.fullmatch(r"stripes/level/1.png: level 0\.\d{4}, upright 0\.\d{4}\n", out)
    assert err == (
        "pycnn: cannot read 'broken.png': it is not a supported image\n"
        "pycnn: cannot read 'missing.png': No such file or directory\n"
        "pycnn: 2 of 3 pictures could not be read\n"
    )
    assert cli.main(["classify", "m.npz", "--json", *names]) == 1
    broken, good, missing = map(json.loads, capsys.readouterr().out.splitlines())
    assert broken == {
        "image": "broken.png",
        "error": "cannot read 'broken.png': it is not a supported image",
    }
    assert good["class"] == "level"
    assert list(missing) == ["image", "error"]


def test_any_name_of_a_class(capsys):
    rng = np.random.default_rng(0)
    names = ["$\\frac$", "a\nb", "a\x1b[31m", "\udcff", "\u732b", "x" * 200]
    for label, name in enumerate(names):
        Path("f", name).mkdir(parents=True)
        for i in range(4):
            pixels = stripes(rng, label % 2, 20, 20)
            PIL.Image.fromarray(pixels).save(Path("f", name, f"{i}.png"))
    command = ["train", "f", "-o", "m.npz", "--confusion", "m.png", "--test-size", "0.5"]
    assert cli.main([*command, "--filters", "5"]) == 0
    out, err = capsys.readouterr()
    assert "'a\\nb'" in out
    assert "\x1b" not in out
    assert re.fullmatch("pycnn: the font of [^\n]+ 1 of the 6 classes[^\n]+\n", err)
    assert set(pycnn.Sequential.load("m.npz").metadata["classes"]) == set(names)
    assert cli.main(["classify", "m.npz", "f/$\\frac$/0.png"]) == 0
    out, _ = capsys.readouterr()
    assert "\x1b" not in out


def test_blank_pictures(capsys):
    for cls in "ab":
        Path("f", cls).mkdir(parents=True)
        for i in range(5):
            PIL.Image.new("L", (9, 9)).save(f"f/{cls}/{i}.png")
    assert cli.main(["train", "f", "-o", "m.npz"]) == 0
    out, err = capsys.readouterr()
    assert "accuracy  0.5000 (1 of the 2 held out)" in out
    assert re.fullmatch("pycnn: [^\n]+ different patches [^\n]+\n", err)


def test_a_bar_counts_what_is_read_in_a_terminal():
    folder = make_folder()
    terminal, other_end = pty.openpty()
    termios.tcsetwinsize(terminal, (24, 80))
    with start("train", folder, "-o", "m.npz", stderr=other_end, text=False) as process:
        os.close(other_end)
        shown = b""
        try:
            while piece := os.read(terminal, 4096):
                shown += piece
        except OSError:  # the process has closed its end
            pass
        out, _ = process.communicate()
    os.close(terminal)
    assert process.returncode == 0
    assert re.search(rb"reading: +\d+%", shown)
    assert b"reading" not in out
    # Not elsewhere, and not without tqdm.
    assert run_without(["tqdm"], "train", folder, "-o", "m.npz")[::2] == (0, "")


# --- The confusion matrix ------------------------------------------------------------------


def draw(figure):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        figure.savefig(io.BytesIO(), format="png")


def labels_of(figure):
    (axes,) = figure.axes
    rows, columns = (
        [label.get_text() for label in get()]
        for get in (axes.get_yticklabels, axes.get_xticklabels)
    )
    assert rows == columns
    return rows


def test_the_confusion_matrix_is_that_of_the_predictions():
    truth, predicted = np.array([0, 0, 1, 2, 2, 2]), np.array([0, 1, 1, 2, 2, 0])
    figure = plot_confusion(truth, predicted, ["cat", "dog", "cow"])
    (axes,) = figure.axes
    np.testing.assert_array_equal(axes.images[0].get_array(), [[1, 1, 0], [0, 1, 0], [1, 0, 2]])
    assert labels_of(figure) == ["cat", "dog", "cow"]
    assert axes.get_title() == "6 held-out pictures, 66.7% right"


def test_names_that_cannot_be_drawn_become_numbers_with_one_remark():
    truth = np.arange(6) % 3
    names = ["\u732b\u732b", "caf\xe9", "\u72ac"]
    with pytest.warns(UserWarning, match="names of 2 of the 3 classes.* 'class 1'") as caught:
        figure = plot_confusion(truth, truth, names)
    assert len(caught) == 1
    draw(figure)
    assert labels_of(figure) == ["class 1", "caf\xe9", "class 3"]


def test_long_names_keep_both_ends():
    truth = np.arange(4) % 2
    names = [f"{'long ' * 50}{end}" for end in ("one", "two")]
    figure = plot_confusion(truth, truth, [*names, "$x$"])
    first, second, formula = labels_of(figure)
    assert first != second
    assert len(first) == len(second) == 24
    assert formula == "$x$"
    draw(figure)


@pytest.mark.parametrize("n", [2, 30, 51, 400, 2000])
def test_names_of_any_number_of_classes_do_not_overlap(n):
    truth = np.arange(2 * n) % n
    figure = plot_confusion(truth, truth, [f"class number {i}" for i in range(n)])
    draw(figure)
    (axes,) = figure.axes
    extents = [label.get_window_extent() for label in axes.get_yticklabels()]
    for lower, upper in pairwise(sorted(extents, key=lambda extent: extent.y0)):
        assert lower.y0 + 0.7 * (lower.y1 - lower.y0) <= upper.y0
    assert all(extent.x0 >= 0 for extent in extents)
    assert max(figure.bbox.size) <= 5000
    assert axes.get_window_extent().width >= 200


# --- What goes wrong -----------------------------------------------------------------------


def hostile_folders():
    make_folder("good", n=2)
    rng = np.random.default_rng(0)
    for name, counts in {"one": [3], "single": [3, 1], "hollow": [3, 0], "none": []}.items():
        Path(name).mkdir()
        for cls, count in zip("ab", counts):
            Path(name, cls).mkdir()
            for i in range(count):
                PIL.Image.fromarray(stripes(rng, 0, 9, 9)).save(f"{name}/{cls}/{i}.png")
    Path("file").write_text("a file\n")


REFUSED = {
    "-o m.npz": "one of the arguments FOLDER --dataset is required",
    "good": "required: -o/--output",
    "good --dataset digits -o m.npz": "not allowed with argument",
    "--dataset cats -o m.npz": "invalid choice: 'cats'",
    "missing -o m.npz": "cannot read the folder 'missing': No such file",
    "file -o m.npz": "cannot read the folder 'file': Not a directory",
    "none -o m.npz": "'none' has no sub-folder; expected two or more",
    "one -o m.npz": "'one' has only the sub-folder 'a'; expected two or more, one for each class",
    "single -o m.npz": "the class 'b' has 1 picture that can be read; every class needs two",
    "hollow -o m.npz": "the class 'b' has 0 pictures that can be read",
    "good -o m.npz": "with --test-size 0.2 the 4 pictures are 3 to learn from and 1 to test",
    "good -o m": "the model 'm' must end with .npz or .safetensors",
    "good -o m.pkl": "must end with .npz or .safetensors",
    "good -o folder.npz": "cannot write 'folder.npz': Is a directory",
    "good -o file/m.npz": "cannot write 'file/m.npz': Not a directory",
    "good -o m.npz --confusion m.jpg": "--confusion 'm.jpg' must end with .png",
    "good -o m.npz --confusion folder.png": "cannot write 'folder.png': Is a directory",
    "good -o m.npz --size 0": "0 is less than 1",
    "good -o m.npz --size 9999": "would hold 1,199,760,012 numbers; the most is",
    "good -o m.npz --size 99999": "99,999 x 99,999 pixels; the most is 100,000,000",
    f"good -o m.npz --size {'9' * 5000}": "'9{59} is no whole number",
    f"good -o m.npz --filters {'9' * 4000}": "a number of 13288 bits is more than",
    "--dataset digits -o m.npz --size 9999": "numbers; the most is",
    "good -o m.npz --filters 0": "0 is less than 1",
    "good -o m.npz --seed -1": "-1 is less than 0",
    "good -o m.npz --seed 4294967296": "4294967296 is more than 4294967295",
    "good -o m.npz --test-size 0": "0.0 is not between 0 and 1",
    "good -o m.npz --test-size 1": "1.0 is not between 0 and 1",
    "good -o m.npz --test-size nan": "nan is not between 0 and 1",
    "good -o m.npz --test-size x": "'x' is no fraction",
    "good -o m.npz --confusion good/level/1.png": "it would overwrite the input 'good/level/1.png'",
    "good -o m.npz extra": "unrecognized arguments",
}


@pytest.mark.parametrize("command", REFUSED)
def test_train_says_in_one_line_what_is_wrong(command, capsys):
    hostile_folders()
    Path("folder.npz").mkdir()
    Path("folder.png").mkdir()
    before = listing()
    assert cli.main(["train", *command.split()]) == 2
    _, err = capsys.readouterr()
    assert re.fullmatch(r"pycnn: [^\n]+\n", err)
    assert re.search(REFUSED[command], err)
    assert listing() == before


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["", "-o", "m.npz"], "the folder '' has no name"),
        (["a\0b", "-o", "m.npz"], r"the folder 'a\\x00b' has a character"),
        (["good", "-o", ""], "the model '' has no name"),
        (["good", "-o", "a\0b.npz"], r"the model 'a\\x00b.npz' has a character"),
        (["good", "-o", "m.npz", "--confusion", ""], "--confusion '' has no name"),
        (["good", "-o", "m.npz", "--confusion", "\0.png"], "--confusion .* has a character"),
    ],
)
def test_names_that_no_file_can_have(arguments, sentence, capsys):
    hostile_folders()
    before = listing()
    assert cli.main(["train", *arguments]) == 2
    assert re.fullmatch(f"pycnn: {sentence}.*\n", capsys.readouterr().err)
    assert listing() == before


def test_warnings_are_told_although_the_end_is_an_error(monkeypatch, capsys):
    def fail(*args):
        for _ in range(3):
            warnings.warn("it did not converge", stacklevel=1)
        raise MemoryError

    make_folder()
    monkeypatch.setattr("pycnn._training.softmax_regression", fail)
    before = warnings.showwarning
    assert cli.main(["train", "stripes", "-o", "m.npz"]) == 2
    assert capsys.readouterr().err == "pycnn: it did not converge\npycnn: not enough memory\n"
    assert warnings.showwarning is before  # which catch_warnings leaves to itself in Python 3.14t


def test_features_beyond_what_memory_is_meant_for(monkeypatch, capsys):
    make_folder()
    monkeypatch.setattr("pycnn.cli._common.MAX_VALUES", 40 * 32 * 32 * 3)
    before = listing()
    assert cli.main(["train", "stripes", "-o", "m.npz", "--filters", "300"]) == 2
    assert "4,800 features of 32 pictures would hold 153,600 numbers" in capsys.readouterr().err
    assert listing() == before


def test_folders_that_cannot_be_read_are_counted_by_themselves(capsys):
    folder = Path(make_folder())
    (folder / "x").symlink_to("x")
    (folder / "level/notes.txt").write_text("no picture\n")
    assert cli.main(["train", str(folder), "-o", "m.npz", "--filters", "5"]) == 0
    err = capsys.readouterr().err.splitlines()
    assert "cannot read the folder" in err[0]
    assert err[2:] == [
        "pycnn: 1 folder could not be read",
        "pycnn: 1 of 41 files could not be read",
    ]


@pytest.mark.parametrize("module", ["sklearn", "matplotlib", "safetensors"])
def test_without_an_extra_the_line_says_what_to_install(module):
    command = ["train", make_folder(), "-o", "m.safetensors", "--confusion", "m.png"]
    status, out, err = run_without([module], *command)
    assert (status, out) == (2, "")
    assert re.fullmatch(r'pycnn: [^\n]+: pip install "pycnn\[\w+\]"\n', err)
    assert listing() == listing_of_folder()


def listing_of_folder():
    return sorted(["stripes", *map(str, Path("stripes").rglob("*"))])


# --- Interrupted, and no room --------------------------------------------------------------


@pytest.mark.parametrize("line", ["pictures", "split", "filters", "features"])
def test_interrupted_while_learning(line):
    make_folder(n=100)
    Path("m.npz").write_text("old")
    command = ("train", "stripes", "-o", "m.npz", "--confusion", "m.png", "--filters", "2000")
    status, out, err = interrupt_after(line, *command)
    assert (status, err.splitlines()[-1]) == (130, "pycnn: interrupted")
    assert "wrote" not in out
    assert listing() == ["m.npz", *listing_of_folder()]
    assert Path("m.npz").read_text() == "old"


def test_interrupted_while_writing(monkeypatch, capsys):
    def interrupt(stream, array, *args, **kwargs):
        stream.write(b"half of")
        raise KeyboardInterrupt

    make_folder()
    Path("m.npz").write_text("old")
    monkeypatch.setattr(np.lib.format, "write_array", interrupt)
    assert cli.main(["train", "stripes", "-o", "m.npz", "--filters", "5"]) == 130
    assert capsys.readouterr().err == "pycnn: interrupted\n"
    assert listing() == ["m.npz", *listing_of_folder()]
    assert Path("m.npz").read_text() == "old"


@pytest.mark.parametrize("name", ["m.npz", "m.safetensors"])
def test_no_room_for_the_model(name):
    make_folder()
    Path(name).write_text("old")
    command = ("train", "stripes", "-o", name, "--confusion", "m.png")
    status, out, err = run_on_a_full_disk(5000, *command)
    assert status == 2
    assert err == f"pycnn: cannot write {name!r}: File too large\n"
    assert "wrote" not in out
    assert listing() == [name, *listing_of_folder()]
    assert Path(name).read_text() == "old"


def test_help(capsys):
    for command, words in (
        ("train", ["FOLDER", "--dataset", "--confusion", "--test-size", "pycnn classify"]),
        ("classify", ["MODEL", "IMAGE", "--json", "exit status"]),
    ):
        assert cli.main([command, "--help"]) == 0
        out = capsys.readouterr().out
        assert all(word in out for word in words)
