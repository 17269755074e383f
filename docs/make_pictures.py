"""Make the pictures of the pages from their examples: PYTHONPATH=. python docs/make_pictures.py."""

import contextlib
import doctest
import sys
import tempfile
from pathlib import Path

import PIL.Image

from pycnn.cli import main

DOCS = Path(__file__).parent.resolve()
COMMAND = ["train", "--dataset", "digits", "-o", "digits.npz", "--confusion", "confusion.png"]

with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
    for page in ("tutorial.rst", "classifying_folders.rst"):
        if doctest.testfile(str(DOCS / page), module_relative=False, encoding="utf-8").failed:
            sys.exit(f"the examples of {page} fail")
    if main(COMMAND) != 0:
        sys.exit(1)
    for picture in Path().glob("*.png"):
        with PIL.Image.open(picture) as image:  # 256 colours are enough, in half the bytes
            image.convert("RGB").quantize().save(DOCS / "images" / picture, optimize=True)
        print("made", picture)
