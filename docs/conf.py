"""The documentation, from docstrings and a few pages."""

import pycnn

project = "pycnn"
author = "the pycnn developers"
version = release = pycnn.__version__
extensions = ["sphinx.ext.autodoc", "sphinx.ext.mathjax", "numpydoc"]
exclude_patterns = ["_build", "measured"]
html_theme = "pydata_sphinx_theme"
html_title = f"pycnn {release}"
html_theme_options = {
    "header_links_before_dropdown": 2,
    "navigation_with_keys": False,
    "show_toc_level": 2,
    "use_edit_page_button": False,
}
html_sidebars = {"**": []}  # no page has pages below it
html_show_sourcelink = False
autodoc_typehints = "none"  # the docstrings say more
numpydoc_show_class_members = False
