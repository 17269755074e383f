"""Check that a source distribution and a wheel hold all that is needed, and nothing else."""

import sys
import tarfile
import zipfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
SUFFIXES = {".py", ".pyi", ".pxd", ".h", ".so", ".typed"}
LARGEST = 1_500_000

(sdist_path,) = (path for path in sys.argv[1:] if path.endswith(".tar.gz"))
(wheel_path,) = (path for path in sys.argv[1:] if path.endswith(".whl"))

with tarfile.open(sdist_path) as sdist:
    names = {member.name.partition("/")[2] for member in sdist if member.isfile()}
for folder in ("pycnn", "src_pyx", "tests", "benchmarks", "docs", "examples"):
    expected = {
        str(path.relative_to(ROOT))
        for path in (ROOT / folder).rglob("*")
        if path.is_file() and not {"__pycache__", "_build"} & set(path.parts)
    }
    assert expected <= names, f"{sdist_path} lacks {sorted(expected - names)}"
modules = {path.stem for path in (ROOT / "src_pyx").glob("*.pyx")}
generated = [name for name in names if name.endswith(".c") and Path(name).stem in modules]
assert not generated, f"{sdist_path} holds generated {generated}"

with zipfile.ZipFile(wheel_path) as wheel:
    contents = {info.filename: info.file_size for info in wheel.infolist()}
package = {name for name in contents if ".dist-info/" not in name}
strangers = [
    name for name in package if not name.startswith("pycnn/") or Path(name).suffix not in SUFFIXES
]
assert not strangers, f"{wheel_path} holds {strangers}"
sources = {str(path.relative_to(ROOT)) for path in (ROOT / "pycnn").rglob("*.p*") if path.is_file()}
sources = {name for name in sources if "__pycache__" not in name} | {
    "pycnn/include/pycnn/pycnn.h",
    "pycnn/py.typed",
}
assert sources <= package, f"{wheel_path} lacks {sorted(sources - package)}"
compiled = {name.split("/")[1].split(".")[0] for name in package if name.endswith(".so")}
assert compiled == modules, compiled
stubbed = {name.split("/")[1].split(".")[0] for name in package if name.endswith(".pyi")}
assert stubbed >= compiled, f"no stubs for {sorted(compiled - stubbed)}"
assert any(name.endswith("licenses/LICENSE") for name in contents)
size = Path(wheel_path).stat().st_size
assert size <= LARGEST, f"{wheel_path} has {size} bytes"
print(f"{Path(wheel_path).name}: {len(contents)} files, {size / 1e6:.2f} MB")
