"""The house has floors, and no module imports one from a floor above its own.

Python names -> checks -> .pyx loops -> engine -> C kernels
"""

import ast
import re
import sys
from pathlib import Path

import pytest
from children import run_well

import pycnn

PACKAGE = Path(pycnn.__file__).parent

FLOORS = [
    {"__main__"},
    {"cli"},
    {"cli.classify", "cli.features", "cli.train"},
    {"cli._confusion"},
    {"cli._common"},
    {"_training", "_pictures"},
    {"viz", "sklearn", "_files", "threadpoolctl"},
    {"_diagram"},
    {"_panels", "_patches"},
    {"pycnn"},
    {"layers"},
    {"layers.branching"},
    {"layers.sequential"},
    {"layers._plan", "layers._model", "layers._batches", "layers.weights"},
    {"layers._calls"},
    {"layers.convolution", "layers.linear", "layers.normalization", "layers.pooling"},
    {"layers._weighted", "layers.activations"},
    {"layers._layer", "layers._initializers"},
    {"layers._summary"},
    {"numpycnn"},
    {"linear", "stage"},
    {"convolution", "pool"},
    {"activations"},
    {"config"},
    {"_model_files"},
    {"_checks", "_cpus", "_json", "_npy", "_version"},
    {"_disk"},
    {"capi"},
    {"_handles"},
    {"_params"},
    {"_repeat"},
    {"_chain"},
    {"_stage", "_dense"},
    {"_conv"},
    {"_driver", "_pool", "_activation"},
    {"_blocks"},
    {"_plan"},
    {"_planes", "_amx", "_winograd"},
    {"_geometry"},
    {"_arrays"},
    {"_layout"},
    {"_axis", "_engine", "_header"},
    {"_typing"},
]
FLOOR = {name: floor for floor, names in enumerate(FLOORS) for name in names}
ALGORITHMS = {"_amx", "_planes", "_winograd"}
STEPS = {"_plan", "_blocks", "_driver"}
C_API = {"capi", "_handles", "_params", "_layout"}
PLANS = {"_chain", "_repeat", "_dense", "_stage", "_conv", "_pool", "_activation", "_arrays"}
COMPILED = ALGORITHMS | STEPS | C_API | PLANS | {"_engine"}
# .pxd files without a module: structs and inline functions
SHARED = {"_axis", "_geometry", "_header"}


def test_every_module_has_a_floor():
    found = {module_of(path) for path in python_files()}
    found |= {path.stem for path in PACKAGE.glob("*.pxd")} - {"__init__"}
    found |= COMPILED | {"pycnn"}
    assert found == set(FLOOR)


def python_files():
    return [path for path in PACKAGE.rglob("*.py") if path.stem != "_reference"]


def module_of(path):
    """Return the name below pycnn of a .py file; that of an __init__.py is its package's."""
    *packages, last = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(packages + [last] * (last != "__init__")) or "pycnn"


def names_of_package(node):
    """Return the modules of pycnn that one import statement names."""
    if isinstance(node, ast.Import):
        return [a.name.partition(".")[2] or "pycnn" for a in node.names if is_ours(a.name)]
    if not isinstance(node, ast.ImportFrom):
        return []
    assert node.level == 0, f"line {node.lineno}: imports are absolute here"
    if not is_ours(node.module):
        return []
    package = node.module.partition(".")[2]  # a name in it that is no module is its own
    inner = [f"{package}.{a.name}".lstrip(".") for a in node.names]
    return [name if name in FLOOR else package or "pycnn" for name in inner]


def is_ours(module):
    return module.split(".")[0] == "pycnn"


def python_imports(path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return [name for node in ast.walk(tree) for name in names_of_package(node)]


def cython_imports(path):
    """Return the modules of pycnn that a .pyx or .pxd imports or cimports, line by line."""
    names = []
    for line in path.read_text(encoding="utf-8").splitlines():
        found = re.match(r"\s*(?:from\s+([\w.]+)\s+)?c?import\s+([\w., ]+)?", line)
        if found is None:
            continue
        source, targets = found.groups()
        if source == "pycnn":
            names += re.findall(r"\w+", targets)
        elif source is not None:
            names += [source.partition(".")[2]] if is_ours(source) else []
        else:
            modules = [t.split(" as ")[0].strip() for t in (targets or "").split(",")]
            names += [m.partition(".")[2] or "pycnn" for m in modules if is_ours(m)]
    return names


def sources():
    """Return every source file there is; the .pyx only lie beside a source tree."""
    return [*python_files(), *PACKAGE.glob("*.pxd"), *(PACKAGE.parent / "src_pyx").glob("*.pyx")]


@pytest.mark.parametrize("path", sources(), ids=lambda path: path.name)
def test_no_import_points_up(path):
    module = module_of(path) if path.suffix == ".py" else path.stem
    imports = python_imports(path) if path.suffix == ".py" else cython_imports(path)
    for name in imports:
        if name != module:  # a .pyx cimports its own .pxd
            assert FLOOR[name] >= FLOOR[module], f"{path.name} imports {name} from above"
        if path.suffix in (".pyx", ".pxd"):
            assert name in COMPILED | SHARED, f"{path.name} imports Python code: {name}"


def test_the_oracle_imports_numpy_alone():
    tree = ast.parse((PACKAGE / "_reference.py").read_text(encoding="utf-8"))
    imports = [node for node in ast.walk(tree) if isinstance(node, (ast.Import, ast.ImportFrom))]
    assert [ast.unparse(node) for node in imports] == ["import numpy as np"]


def test_nothing_imports_the_oracle():
    for path in python_files():
        assert "_reference" not in python_imports(path)


@pytest.mark.parametrize(
    ("statement", "expected"),
    [
        ("import pycnn.cli", ["cli"]),
        ("import numpy, pycnn", ["pycnn"]),
        ("from pycnn import _checks, __version__", ["_checks", "pycnn"]),
        ("from pycnn.pool import max_pool2d", ["pool"]),
        ("from pycnn.layers import _layer", ["layers._layer"]),
        ("from pycnn.layers import ReLU", ["layers"]),
        ("from numpy import array", []),
    ],
)
def test_the_reader_of_imports(tmp_path, statement, expected):
    """Imports are found in functions, too, and by both readers."""
    python = tmp_path / "python.py"
    python.write_text(f"def f():\n    {statement}\n", encoding="utf-8")
    assert python_imports(python) == expected
    if "__version__" not in statement and ".layers" not in statement:
        cython = tmp_path / "cython.pyx"
        cython.write_text(
            f"{statement}\n{statement.replace('import', 'cimport')}\n", encoding="utf-8"
        )
        assert cython_imports(cython) == expected * 2


def test_import_pulls_in_numpy_alone():
    lines = run_well(
        "-c",
        "import numpy, sys\n"
        "before = set(sys.modules)\n"
        "import pycnn\n"
        "print(*sorted({m.split('.')[0] for m in set(sys.modules) - before}))",
    )
    # NumPy 1.26 finds the names of NumPy 2 in modules that it loads on demand.
    new = set(lines.split()) - set(sys.stdlib_module_names) - {"numpy"}
    # Cython makes modules of its own for what its extension modules share.
    assert {name for name in new if not name.lstrip("_").startswith("cython_")} == {"pycnn"}


def test_import_loads_no_integration():
    loaded = run_well("-c", "import pycnn, sys; print(*sys.modules)").split()
    integrations = {"pycnn.capi", "pycnn.cli", "pycnn.sklearn", "pycnn.viz"}
    assert not integrations & set(loaded)
    assert not {"pycnn._reference", "argparse", "matplotlib", "sklearn"} & set(loaded)


@pytest.mark.parametrize(
    "use",
    [
        "pycnn.Conv2D",
        "pycnn.layers.Layer",
        "from pycnn import Sequential",
        "from pycnn import layers; layers.ReLU",
        "import pycnn.layers.pooling",
        "from pycnn import *; assert set(pycnn.__all__) <= set(globals()); Dense",
        "import pickle; pickle.loads(pickle.dumps(pycnn.ReLU()))",
    ],
)
def test_layers_are_loaded_at_first_use(use):
    run_well(
        "-c",
        "import pycnn, sys\n"
        "assert not any(name.startswith('pycnn.layers') for name in sys.modules)\n"
        f"{use}\n"
        "assert pycnn.Softmax is sys.modules['pycnn.layers'].Softmax\n"
        "assert set(pycnn.__all__) <= set(vars(pycnn))",
    )


def test_the_names_of_the_package():
    assert set(pycnn.__all__) <= set(dir(pycnn))
    assert not hasattr(pycnn, "Layer")
    with pytest.raises(AttributeError, match="^module 'pycnn' has no attribute 'Conv3D'$"):
        pycnn.Conv3D  # noqa: B018
