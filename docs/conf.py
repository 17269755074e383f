"""The documentation, from docstrings and a few pages."""

import pycnn

project = "pycnn"
author = "the pycnn developers"
version = release = pycnn.__version__
extensions = ["sphinx.ext.autodoc", "sphinx.ext.mathjax", "numpydoc"]
exclude_patterns = ["_build"]
html_title = f"pycnn {release}"
autodoc_typehints = "none"  # the docstrings say more
numpydoc_show_class_members = False
