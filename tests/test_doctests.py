"""The examples in the docstrings, on the pages and in the README do what they say."""

import doctest
import importlib
import pkgutil
import re
from pathlib import Path

import pytest

import pycnn

MODULES = ["pycnn", *(m.name for m in pkgutil.walk_packages(pycnn.__path__, "pycnn."))]
ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
PAGES = [path for path in (ROOT / "docs").glob("*.rst") if ">>> " in path.read_text("utf-8")]


@pytest.mark.parametrize("name", [name for name in MODULES if name != "pycnn.__main__"])
def test_examples_of_module(name):
    module = importlib.import_module(name)
    result = doctest.testmod(module, optionflags=doctest.NORMALIZE_WHITESPACE)
    assert result.failed == 0


@pytest.mark.parametrize("name", sorted(set(pycnn.__all__) - {"__version__"}))
def test_every_public_function_has_an_example(name):
    assert doctest.DocTestFinder(recurse=False).find(getattr(pycnn, name))[0].examples


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_examples_of_page(page, tmp_path, monkeypatch):
    if "import torch" in page.read_text("utf-8"):
        pytest.importorskip("torch")
    monkeypatch.chdir(tmp_path)  # some write files
    assert doctest.testfile(str(page), module_relative=False, encoding="utf-8").failed == 0


def test_python_in_the_readme():
    blocks = re.findall(r"^```python\n(.*?)^```$", README.read_text("utf-8"), re.DOTALL | re.M)
    assert len(blocks) >= 2
    for block in blocks:
        namespace = {}
        exec(block, namespace)
        # A comment at the end of a line is the shape of what the line made.
        shapes = re.findall(r"^(\w+) = .*# (\([\d, ]+\))$", block, re.M)
        assert shapes
        for variable, shape in shapes:
            assert str(namespace[variable].shape) == shape
