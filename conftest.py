"""Lets ``python -m pytest`` test the installed package from the root of a clone.

``python -m`` puts this folder first on the path, but unless it was built in place its pycnn/ has
no compiled modules.
"""

import sys
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path

ROOT = Path(__file__).resolve().parent

if not any((ROOT / "pycnn" / f"_engine{suffix}").exists() for suffix in EXTENSION_SUFFIXES):
    sys.path[:] = [entry for entry in sys.path if Path(entry).resolve() != ROOT]
