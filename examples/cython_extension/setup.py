"""Builds the extension module; everything else is in pyproject.toml."""

from Cython.Build import cythonize
from setuptools import Extension, setup

import pycnn

setup(
    ext_modules=cythonize(
        [Extension("detector", ["detector.pyx"], include_dirs=[pycnn.get_include()])],
        language_level=3,
    )
)
