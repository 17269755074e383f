"""Other people's packages: examples, built and run outside the source tree."""

import os
import re
import shutil
import subprocess
import sys
import sysconfig
import textwrap
from pathlib import Path

import pytest
from children import run_well

import pycnn

EXAMPLES = Path(__file__).parents[1] / "examples"
NATIVE = Path(__file__).parent / "native"


def call(*command, cwd, **environment):
    """Run a command that must succeed, with the pycnn under test; return what it printed."""
    env = os.environ | {"PYTHONPATH": str(Path(pycnn.__file__).parents[1])} | environment
    child = subprocess.run(
        command, cwd=cwd, env=env, timeout=300, capture_output=True, text=True, check=False
    )
    assert child.returncode == 0, f"{command}\n{child.stdout}\n{child.stderr[-4000:]}"
    return child.stdout


@pytest.fixture(scope="session")
def detector(tmp_path_factory):
    """Return the folder that the Cython example was installed into."""
    source, site = tmp_path_factory.mktemp("source") / "it", tmp_path_factory.mktemp("site")
    shutil.copytree(EXAMPLES / "cython_extension", source)
    pip = [sys.executable, "-m", "pip", "install", "--no-build-isolation", "--no-deps"]
    call(*pip, "--target", str(site), ".", cwd=source)
    return site


def test_the_cython_example_finds_its_template(detector):
    path = os.pathsep.join([str(detector), str(Path(pycnn.__file__).parents[1])])
    printed = call(sys.executable, "-m", "find_template", cwd=detector, PYTHONPATH=path)
    assert printed == "68096 windows; the first of the best is at row 99, column 199\n"


SCORES = """
import sys
sys.path.insert(0, sys.argv[1])
import numpy as np, pycnn
from detector import Detector
rng = np.random.default_rng(3)
filters = rng.random((3, 4, 5), np.float32)
weights = rng.random((4 * 5 * 3, 1), np.float32)
detector = Detector(filters, weights, (11, 14))
host = rng.random((60, 70), np.float32)
for image in (host, host[::2, ::-1], host.T):
    scores = np.asarray(detector.scores(image, 3))
    for y, x in np.ndindex(scores.shape):
        window = image[3 * y : 3 * y + 11, 3 * x : 3 * x + 14]
        features = pycnn.conv_relu_pool(window, filters)
        assert scores[y, x] == pycnn.dense(features.ravel(), weights)[0]
for wrong in (lambda: detector.scores(host[:5]), lambda: Detector(filters, weights, (3, 3))):
    try:
        wrong()
    except ValueError as error:
        print(error)
"""


def test_the_cython_example_gives_the_bits_of_python(detector):
    printed = run_well("-c", SCORES, str(detector))
    assert "does not fit" in printed
    assert "PYCNN_ERROR_WINDOW" in printed


EDGES = """
import numpy as np, pycnn
from edges import edges
rng = np.random.default_rng(5)
image, filters = rng.random((20, 30), np.float32), rng.random((2, 3, 3), np.float32)
out = np.empty((8, 28, 2), np.float32)
edges(image[::2], filters, out)
np.testing.assert_array_equal(out, pycnn.conv2d(image[::2], filters))
try:
    edges(image[:1], filters, out)
except ValueError as error:
    print(error)
"""


def snippets(language):
    """Return the code blocks of a language on the page about the C API."""
    page = (EXAMPLES.parent / "docs" / "c_api.rst").read_text(encoding="utf-8")
    blocks = re.findall(rf"code-block:: {language}\n\n((?:    .*\n|\n)+)", page)
    return [textwrap.dedent(block) for block in blocks]


def test_the_code_of_the_page_runs(tmp_path):
    (pyx,), (setup, use, _, _, _, numba) = snippets("cython"), snippets("python")
    (tmp_path / "edges.pyx").write_text(pyx, encoding="utf-8")
    call(sys.executable, "-c", setup, "build_ext", "--inplace", cwd=tmp_path)
    call(sys.executable, "-c", use, cwd=tmp_path)
    printed = call(sys.executable, "-c", EDGES, cwd=tmp_path)
    assert printed.startswith("PYCNN_ERROR_WINDOW: ")
    assert call(sys.executable, "-c", numba, cwd=tmp_path) == "3.5\n"


SOBEL = """
import pycnn
assert status == 0
sobel = np.array([[[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]]], np.float32)
np.testing.assert_array_equal(out.reshape(18, 28, 1), pycnn.conv2d(image, sobel))
"""


@pytest.mark.skipif(shutil.which("c++") is None, reason="no c++")
def test_the_library_in_cpp_is_handed_the_table(tmp_path):
    (cpp,), load = snippets("cpp"), snippets("python")[2]
    (tmp_path / "edges.cpp").write_text(cpp, encoding="utf-8")
    options = ["-std=c++11", "-shared", "-fPIC", "-Wall", "-Wextra", "-Werror"]
    options.append(f"-I{pycnn.get_include()}")
    call("c++", *options, "edges.cpp", "-o", "libedges.so", cwd=tmp_path)
    call(sys.executable, "-c", load + SOBEL, cwd=tmp_path)


@pytest.mark.parametrize("which", [3, 4], ids=["ctypes", "cffi"])
def test_the_layers_without_a_compiler(which, tmp_path):
    call(sys.executable, "-c", snippets("python")[which] + SOBEL, cwd=tmp_path)


@pytest.mark.parametrize("header", ["installed", "1.0"])
def test_the_c_example_runs_against_any_header_of_this_major_version(tmp_path, header):
    """What was compiled against an older copy of the header still runs."""
    source = tmp_path / "c_program"
    shutil.copytree(EXAMPLES / "c_program", source)
    given = [] if header == "installed" else [f"INCLUDE={NATIVE / 'api_1_0'}"]
    call("make", f"PYTHON={sys.executable}", "CFLAGS=-Wall -Wextra -Werror", *given, cwd=source)
    assert call("./window_sums", sys.executable, cwd=source) == "16724736\n"


def test_the_numba_example_finds_its_pattern(tmp_path):
    printed = call(sys.executable, str(EXAMPLES / "numba_detector.py"), cwd=tmp_path)
    assert printed == "16241 windows; the best are around row 36, column 66\n"


NUMBA = """
import sys
sys.path.insert(0, sys.argv[1])
import numpy as np, pycnn
from numba_detector import detect
rng = np.random.default_rng(4)
host, filters = rng.random((40, 50), np.float32), rng.random((3, 4, 4), np.float32)
for image in (host, host[::2, 1::3], host[::-1, ::-1]):
    best = detect(image, filters, 9)
    for y, x in np.ndindex(best.shape):
        assert best[y, x] == pycnn.conv_relu_pool(image[y : y + 9, x : x + 9], filters).max()
"""


def test_the_numba_example_gives_the_bits_of_python():
    run_well("-c", NUMBA, str(EXAMPLES))


@pytest.mark.parametrize("before", ["", "#include <Python.h>\n"], ids=["alone", "python"])
@pytest.mark.parametrize("compiler", [["cc", "-x", "c", "-std=c89"], ["c++", "-x", "c++"]])
def test_the_header_is_clean_c89_and_cpp(compiler, before, tmp_path):
    if shutil.which(compiler[0]) is None:
        pytest.skip(f"no {compiler[0]}")
    if before and "c" in compiler:
        compiler = ["cc", "-x", "c", "-std=c11"]  # as Python's own headers are
    source = tmp_path / "source"
    source.write_text(f"{before}#include <pycnn/pycnn.h>\n", encoding="utf-8")
    options = ["-pedantic", "-Wall", "-Wextra", "-Werror", "-fsyntax-only"]
    folders = [f"-I{pycnn.get_include()}", "-isystem", sysconfig.get_path("include")]
    subprocess.run([*compiler, *options, *folders, str(source)], check=True)
