"""The command line, in this process and as a process of its own."""

import io
import os
import re
import subprocess
import sys
import textwrap
import zlib
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
from commands import environment, interrupt_after, listing, run, run_on_a_full_disk, run_without
from skimage import data

import pycnn
from pycnn import cli, viz
from pycnn.cli import features

CHELSEA = data.chelsea()


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path, monkeypatch):
    """Run every test where it can leave nothing behind."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")


def small_picture(name="small.png"):
    PIL.Image.fromarray(CHELSEA[:60:2, :80:2]).save(name)
    return name


def check_picture(path, figure):
    """Check that the file is a whole PNG of the figure's size that shows more than one colour."""
    with PIL.Image.open(path) as image:
        assert image.format == "PNG"
        image.load()
        np.testing.assert_allclose(image.size, figure.get_size_inches() * figure.dpi, atol=1)
        assert np.asarray(image.convert("L")).std() > 10


# --- What features does --------------------------------------------------------------------


def stages_of(archive):
    with np.load(archive) as arrays:
        arrays = dict(arrays)
    image = arrays.pop("image")
    stages = []
    while arrays:
        name = f"stage{len(stages) + 1}_"
        stages.append([arrays.pop(name + s) for s in ("filters", "conv", "relu", "pooling")])
    return image, stages


def check_stages(image, stages):
    x = image
    for filters, after_conv, after_relu, after_pooling in stages:
        np.testing.assert_array_equal(after_conv, pycnn.conv(x, filters))
        np.testing.assert_array_equal(after_relu, np.maximum(after_conv, 0))
        np.testing.assert_array_equal(after_pooling, pycnn.pooling(after_relu, 2, 2))
        x = after_pooling


def test_the_tutorial_runs_without_arguments(capsys):
    assert cli.main(["features", "--npz", "arrays.npz"]) == 0
    assert listing() == ["arrays.npz", "features", *(f"features/stage{i}.png" for i in (1, 2, 3))]

    image, stages = stages_of("arrays.npz")
    assert image.shape == (300, 451)
    assert [stage[-1].shape for stage in stages] == [(149, 224, 2), (72, 110, 3), (33, 52, 1)]
    np.testing.assert_array_equal(
        stages[0][0],
        [[[-1, 0, 1]] * 3, [[1, 1, 1], [0, 0, 0], [-1, -1, -1]]],
    )
    rng = np.random.default_rng(0)
    np.testing.assert_array_equal(stages[1][0], rng.random((3, 5, 5, 2)).astype(np.float32))
    np.testing.assert_array_equal(stages[2][0], rng.random((1, 7, 7, 3)).astype(np.float32))
    assert {array.dtype for stage in stages for array in stage} == {np.dtype(np.float32)}
    check_stages(image, stages)

    x = image
    for i, (filters, *maps) in enumerate(stages, start=1):
        expected = viz.plot_stage(x, *maps, filters=filters, title="-")
        check_picture(f"features/stage{i}.png", expected)
        x = maps[-1]

    out, err = capsys.readouterr()
    assert err == ""
    lines = out.splitlines()
    steps = [line for line in lines if re.search(r" +\d+\.\d\d ms$", line)]
    assert len(steps) == 1 + 3 * 4
    for text in ("298 x 449 x 2", "149 x 224 x 2", "72 x 110 x 3", "33 x 52 x 1"):
        assert any(text in line for line in steps)
    assert lines[len(steps) :] == [
        "wrote    features/stage1.png",
        "wrote    features/stage2.png",
        "wrote    features/stage3.png",
        "wrote    arrays.npz",
    ]


def test_the_picture_shows_the_image():
    assert cli.main(["features", "--out", "."]) == 0
    with PIL.Image.open("stage1.png") as picture:
        pixels = np.asarray(picture.convert("RGB")).astype(float)
    # The input is the leftmost panel: find its frame by the first columns that are not white.
    columns = np.flatnonzero((pixels[150:] < 240).any(axis=(0, 2)))
    left, right = columns[0], columns[np.flatnonzero(np.diff(columns) > 5)[0]]
    rows = np.flatnonzero((pixels[150:, left:right] < 240).any(axis=(1, 2))) + 150
    panel = pixels[rows[0] : rows[-1], left:right].mean(axis=2)
    cat = np.asarray(PIL.Image.fromarray(CHELSEA).convert("L").resize(panel.shape[::-1]))
    assert np.corrcoef(panel.ravel(), cat.ravel())[0, 1] > 0.95


def test_colours_are_kept_on_request():
    assert cli.main(["features", "--rgb", "--npz", "a.npz"]) == 0
    image, stages = stages_of("a.npz")
    np.testing.assert_allclose(image, CHELSEA / 255, rtol=1e-6)
    assert stages[0][0].shape == (2, 3, 3, 3)
    assert [stage[-1].shape for stage in stages] == [(149, 224, 2), (72, 110, 3), (33, 52, 1)]
    check_stages(image, stages)
    # The edges of the mean of the channels.
    grey_edges = pycnn.conv(image.mean(axis=2), features.tutorial_filters()[0])
    np.testing.assert_allclose(stages[0][1], grey_edges, atol=1e-5)
    with PIL.Image.open("features/stage1.png") as picture:
        left = np.asarray(picture.convert("RGB"))[:, : picture.width // 6].astype(int)
    assert abs(left[..., 0] - left[..., 2]).max() > 50  # the cat is not grey


@pytest.mark.parametrize("colours", [[], ["--rgb"]])
def test_random_filters(colours):
    picture = small_picture()
    for seed, name in (("5", "a"), ("5", "b"), ("6", "c")):
        options = ["--random", "7", "4", "--seed", seed, "--out", name, "--npz", f"{name}.npz"]
        assert cli.main(["features", picture, *options, *colours]) == 0
        assert os.listdir(name) == ["stage1.png"]
    image, stages = stages_of("a.npz")
    (stage,) = stages
    assert stage[0].shape == (7, 4, 4, 3) if colours else (7, 4, 4)
    assert stage[1].shape == (27, 37, 7)
    check_stages(image, stages)
    again, other = stages_of("b.npz")[1][0], stages_of("c.npz")[1][0]
    np.testing.assert_array_equal(stage[0], again[0])
    assert (stage[0] != other[0]).all()
    assert Path("a/stage1.png").read_bytes() == Path("b/stage1.png").read_bytes()


@pytest.mark.parametrize("dtype", ["f2", "f4", "f8", "i1", "?", ">f8"])
def test_filters_from_a_file(dtype):
    filters = np.random.default_rng(0).integers(0, 2, (5, 3, 2)).astype(dtype)
    np.save("f.npy", filters)
    assert cli.main(["features", small_picture(), "--filters", "f.npy", "--npz", "a.npz"]) == 0
    image, stages = stages_of("a.npz")
    assert stages[0][1].dtype == np.result_type(dtype, np.float32).newbyteorder("=")
    np.testing.assert_array_equal(stages[0][0], filters)
    check_stages(image, stages)


def test_a_second_run_replaces_the_pictures_of_the_first():
    Path("features").mkdir()
    Path("features/stage1.png").write_text("old")
    assert cli.main(["features", small_picture(), "--random", "1", "3"]) == 0
    with PIL.Image.open("features/stage1.png") as image:
        image.load()


def test_nothing_is_fetched_or_cached():
    # A process of its own with a home of its own and without a network.
    program = """
        import socket, sys
        def refuse(*args, **kwargs):
            raise AssertionError("the network was used")
        socket.socket.connect = socket.create_connection = socket.getaddrinfo = refuse
        from pycnn.cli import main
        sys.exit(main(["features"]))
    """
    home = Path("home").absolute()
    home.mkdir()
    subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)],
        env=environment(HOME=str(home), XDG_CACHE_HOME=str(home / "cache")),
        check=True,
        stdout=subprocess.DEVNULL,
    )
    assert not list(home.rglob("*scikit-image*"))


def test_the_users_matplotlib_settings_do_not_change_the_pictures():
    picture = small_picture()
    Path("rc").write_text("text.usetex: True\nsavefig.dpi: 17\nimage.cmap: jet\n")
    for name, env in (("a", environment()), ("b", environment(MATPLOTLIBRC=str(Path("rc"))))):
        status, _, err = run("features", picture, "--random", "2", "3", "--out", name, env=env)
        assert (status, err) == (0, "")
    assert Path("a/stage1.png").read_bytes() == Path("b/stage1.png").read_bytes()


def test_a_name_the_terminal_cannot_show(tmp_path):
    picture = small_picture("cat \u732b \udcff.png")
    env = environment(PYTHONIOENCODING="ascii")
    assert run("features", picture, "--random", "1", "3", env=env)[::2] == (0, "")
    status, out, err = run("features", "missing \u732b \udcff \n", env=env)
    assert (status, out) == (2, "")
    assert err.count("\n") == 1


# --- info, version, help -------------------------------------------------------------------


def test_info(capsys):
    assert cli.main(["info"]) == 0
    out, err = capsys.readouterr()
    pycnn.show_config()
    assert (out, err) == capsys.readouterr()
    assert pycnn.__version__ in out
    assert np.__version__ in out


def test_version_and_help(capsys):
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out == f"pycnn {pycnn.__version__}\n"
    assert cli.main(["features", "--help"]) == 0
    out = capsys.readouterr().out
    for option in ("--rgb", "--filters", "--random", "--seed", "--out", "--npz"):
        assert option in out


def test_module_and_function_agree():
    status, out, err = run("--version")
    assert (status, out, err) == (0, f"pycnn {pycnn.__version__}\n", "")


# --- What goes wrong -----------------------------------------------------------------------


def hostile_files():
    """Make the inputs that the refused commands below name."""
    small_picture()
    png = Path("small.png").read_bytes()
    Path("truncated.png").write_bytes(png[: len(png) // 2])
    Path("text.png").write_text("not a picture\n")
    Path("empty.png").write_bytes(b"")
    Path("folder").mkdir()
    Path("file").write_text("a file\n")
    header = b"IHDR" + (2**20).to_bytes(4) * 2 + png[24:29]  # 2**20 pixels wide and high
    huge = png[:12] + header + zlib.crc32(header).to_bytes(4) + png[33:]
    Path("huge.png").write_bytes(huge)
    PIL.Image.fromarray(CHELSEA[:4, :4]).save("tiny.png")
    np.save("rank.npy", np.ones((3, 3)))
    np.save("rgb.npy", np.ones((2, 3, 3, 3)))
    np.save("four.npy", np.ones((2, 3, 3, 4)))
    np.save("large.npy", np.ones((1, 99, 99)))
    np.save("complex.npy", np.ones((2, 3, 3), complex))
    np.save("objects.npy", np.array([[[None]]]), allow_pickle=True)
    np.save("good.npy", np.ones((2, 3, 3)))
    Path("truncated.npy").write_bytes(Path("good.npy").read_bytes()[:-20])


REFUSED = {
    "missing.png": "No such file",
    "truncated.png": "damaged",
    "text.png": "not a supported image",
    "empty.png": "not a supported image",
    "folder": "Is a directory",
    "huge.png": "million pixels",
    "small.png/inside": "Not a directory",
    "tiny.png": "stage 2: ",
    "tiny.png --random 1 5": "stage 1: ",
    "http://localhost/cat.png": "No such file",
    "--filters missing.npy": "No such file",
    "--filters folder": "Is a directory",
    "--filters rank.npy": r"have shape \(3, 3\)",
    "--filters rgb.npy": "needs --rgb",
    "--filters good.npy --rgb": r"not \(F, KH, KW, 3\)",
    "--filters four.npy --rgb": r"not \(F, KH, KW, 3\)",
    "small.png --filters large.npy": "stage 1: ",
    "--filters complex.npy": "<c16",
    "--filters objects.npy": "dtype is",
    "--filters truncated.npy": "as an .npy file",
    "--filters small.png": "as an .npy file",
    "--filters good.npy --seed 3": "--seed has no effect",
    "--filters good.npy --random 2 3": "not allowed with",
    "--random 0 3": "0 is less than 1",
    "--random 3 0": "0 is less than 1",
    "--random 3": "expected 2 arguments",
    "--random 3 x": "'x' is no whole number",
    "--random 1 999999999": "numbers; the most is",
    "--random 99999999999 1": "numbers; the most is",
    "--random 100000 3": "numbers; the most is",
    "--seed -1": "-1 is less than 0",
    "--seed 1.5": "'1.5' is no whole number",
    "--out file": "Not a directory",
    "--out file/below": "Not a directory",
    "--npz folder": "Is a directory",
    "--npz /dev/null": "not a regular file",
    "--npz features/stage1.png": "would overwrite",
    "small.png --npz small.png": "would overwrite the input",
    "--filters good.npy --npz ./good.npy": "would overwrite the input",
    f"--npz {'x' * 300}": "too long",
    "--unknown": "unrecognized arguments",
    "small.png text.png": "unrecognized arguments",
}


@pytest.mark.parametrize("command", REFUSED)
def test_one_line_status_2_and_nothing_written(command, capsys):
    hostile_files()
    before = {path: path.read_bytes() for path in Path().rglob("*") if path.is_file()}

    status = cli.main(["features", *command.split()])

    out, err = capsys.readouterr()
    assert status == 2
    assert re.fullmatch(r"pycnn: [^\n]+\n", err)
    assert re.search(REFUSED[command], err)
    assert "wrote" not in out
    after = {path: path.read_bytes() for path in Path().rglob("*") if path.is_file()}
    assert after == before
    assert not Path("features").exists()
    assert Path(os.devnull).is_char_device()


@pytest.mark.parametrize("arguments", [[], ["unknown"], ["info", "extra"]])
def test_wrong_commands(arguments, capsys):
    assert cli.main(arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert re.fullmatch(r"pycnn: [^\n]+ \(see pycnn.* --help\)\n", err)


def test_the_process_ends_the_same_way():
    Path("text.png").write_text("not a picture\n")
    assert run("features", "text.png") == (
        2,
        "",
        "pycnn: cannot read 'text.png': it is not a supported image\n",
    )
    assert listing() == ["text.png"]


def test_not_enough_memory(capsys, monkeypatch):
    def fail(*args):
        raise MemoryError("conv2d: 99 TiB")

    monkeypatch.setattr(features, "conv", fail)
    assert cli.main(["features", small_picture()]) == 2
    assert capsys.readouterr().err == "pycnn: not enough memory\n"
    assert listing() == ["small.png"]


@pytest.mark.parametrize("module", ["skimage", "matplotlib"])
def test_without_the_extra_the_line_says_what_to_install(module):
    status, out, err = run_without([module], "features")
    assert (status, out) == (2, "")
    assert re.fullmatch(r'pycnn: [^\n]+: pip install "pycnn\[images\]"\n', err)
    assert run_without([module], "info")[0] == 0  # needs neither
    assert listing() == []


def test_a_file_that_cannot_be_completed_leaves_nothing():
    """With a limit on the size of files, writing fails in the middle, as on a full disk."""
    small_picture()
    Path("features").mkdir()
    Path("features/stage1.png").write_text("old")
    arguments = ("features", "small.png", "--random", "4", "3", "--npz", "a.npz")
    status, out, err = run_on_a_full_disk(3000, *arguments)
    assert status == 2
    assert re.fullmatch(r"pycnn: cannot write '[^\n]+': File too large\n", err)
    assert "wrote" not in out
    assert listing() == ["features", "features/stage1.png", "small.png"]
    assert Path("features/stage1.png").read_text() == "old"


def test_a_reader_of_stdout_that_goes_away_is_no_error():
    small_picture()
    for arguments in (["features", "small.png"], ["info"], ["--help"]):
        reader, writer = os.pipe()
        os.close(reader)
        status, _, err = run(*arguments, stdout=writer)
        os.close(writer)
        assert (status, err) == (141, "")
    assert listing() == ["small.png"]


def test_a_full_disk_below_stdout_is_one():
    small_picture()
    for arguments in (["features", "small.png"], ["info"], ["--help"]):
        with open("output", "w") as output:
            status, _, err = run_on_a_full_disk(0, *arguments, stdout=output)
        assert status == 2
        assert err == "pycnn: cannot write to standard output: File too large\n"
    assert listing() == ["output", "small.png"]


def test_closed_standard_streams():
    small_picture()
    arguments = ("features", "small.png", "--random", "1", "3")
    assert run(*arguments, preexec_fn=lambda: os.close(1))[0] == 0
    assert Path("features/stage1.png").exists()
    status, out, _ = run("features", "missing.png", preexec_fn=lambda: os.close(2))
    assert (status, out) == (2, "")


# --- Ctrl-C --------------------------------------------------------------------------------


def test_interrupted_between_the_stages():
    status, out, err = interrupt_after("stage 1  pooling", "features", "--random", "64", "3")
    assert (status, err) == (130, "pycnn: interrupted\n")
    assert "wrote" not in out
    assert listing() == []


def test_interrupted_in_the_middle_of_a_long_convolution():
    # Minutes of work in one call of compiled code, which cannot look for signals.
    noise = np.random.default_rng(0).integers(0, 255, (3000, 3000), np.uint8)
    PIL.Image.fromarray(noise).save("noise.png", compress_level=1)
    arguments = ("features", "noise.png", "--random", "60", "400")
    status, out, err = interrupt_after("image", *arguments, wait=2.0)
    assert (status, err) == (130, "pycnn: interrupted\n")
    assert "conv" not in out
    assert listing() == ["noise.png"]


def test_interrupted_while_publishing(monkeypatch, capsys):
    def interrupt(stream, **arrays):
        stream.write(b"half of")
        raise KeyboardInterrupt

    monkeypatch.setattr(np, "savez", interrupt)
    assert cli.main(["features", small_picture(), "--npz", "a.npz", "--random", "1", "3"]) == 130
    assert capsys.readouterr().err == "pycnn: interrupted\n"
    assert listing() == ["small.png"]


def test_the_output_is_a_stream_of_whole_lines():
    """Each line comes out when its step is done, not at the end."""
    stream = io.StringIO()
    old, sys.stdout = sys.stdout, stream
    try:
        assert cli.main(["features", small_picture(), "--random", "1", "3"]) == 0
    finally:
        sys.stdout = old
    assert stream.getvalue().endswith("wrote    features/stage1.png\n")
