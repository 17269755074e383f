"""Builds the extension modules; everything else is in pyproject.toml."""

import os
import shutil
import sys
import sysconfig
from concurrent.futures import ThreadPoolExecutor
from glob import glob
from itertools import chain

import numpy as np
from Cython.Build import cythonize
from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

KERNELS = "src_pyx/kernels"
INCLUDE = "pycnn/include"
# Never -ffast-math: it loses NaN and switches subnormals off for the whole process.
FLAGS = [
    "-O3",
    "-g0",
    "-std=gnu11",
    "-fvisibility=hidden",
    "-ffp-contract=fast",
    "-fno-math-errno",
    "-fno-trapping-math",
]


class BuildExtensions(build_ext):
    """build_ext that compiles on all processors and names what is missing in one line."""

    def build_extensions(self):
        flags, link_flags = [], []
        if self.compiler.compiler_type == "unix":
            require_compiler(self.compiler.compiler[0])
            flags, link_flags = [*FLAGS, "-pthread"], ["-pthread"]
        elif self.compiler.compiler_type == "msvc":
            use_clang_cl(self.compiler, self.plat_name)
            flags = [f"/clang:{flag}" for flag in FLAGS]
        # Flags of the environment come last, so that -O1 -g of a sanitizer build wins.
        flags += os.environ.get("CFLAGS", "").split()
        for extension in self.extensions:
            extension.extra_compile_args += flags
            extension.extra_link_args += link_flags
        compile_serially = self.compiler.compile
        with ThreadPoolExecutor(os.cpu_count()) as pool:

            def compile_each(sources, *args, **kwargs):
                def compile_one(source):
                    return compile_serially([source], *args, **kwargs)

                return list(chain.from_iterable(pool.map(compile_one, sources)))

            self.compiler.compile = compile_each
            self.parallel = True
            super().build_extensions()


def use_clang_cl(compiler, platform):
    """Puts LLVM's clang-cl in the place of Microsoft's cl, which has no vectors; the rest stays."""
    if not compiler.initialized:
        compiler.initialize(platform)
    # LLVM's installer leaves the path alone unless it is told otherwise.
    folders = [os.environ.get("PATH", ""), r"C:\Program Files\LLVM\bin"]
    compiler.cc = shutil.which("clang-cl", path=os.pathsep.join(folders))
    if compiler.cc is None:
        sys.exit(
            "pycnn: no C compiler: 'clang-cl' was not found; install LLVM "
            "('winget install LLVM.LLVM') beside Visual Studio's C++ tools"
        )
    # Whole-program optimization is cl's own.
    compiler.compile_options = [o for o in compiler.compile_options if o != "/GL"]


def require_compiler(command):
    header = os.path.join(sysconfig.get_path("include"), "Python.h")
    if shutil.which(command) is None:
        sys.exit(
            f"pycnn: no C compiler: {command!r} was not found; install one ('apt install gcc', "
            "'dnf install gcc', 'xcode-select --install') or name yours in CC"
        )
    if not os.path.exists(header):
        sys.exit(
            f"pycnn: no C headers of Python: {header!r} was not found; install them "
            "('apt install python3-dev', 'dnf install python3-devel')"
        )


def extension(pyx):
    name = os.path.splitext(os.path.basename(pyx))[0]
    # The C files are linked into _engine alone: twice would be two thread pools.
    c_files = sorted(glob(f"{KERNELS}/*.c")) if name == "_engine" else []
    return Extension(
        f"pycnn.{name}",
        [pyx, *c_files],
        include_dirs=[np.get_include(), KERNELS, INCLUDE],
        depends=[*glob(f"{KERNELS}/*.h"), *glob(f"{INCLUDE}/pycnn/*.h")],
        define_macros=[
            ("NPY_NO_DEPRECATED_API", "NPY_1_23_API_VERSION"),
            ("NPY_TARGET_VERSION", "NPY_1_23_API_VERSION"),
        ],
    )


# The indices that Cython can check at run time; for sanitizer builds.
checked = bool(os.environ.get("PYCNN_BOUNDSCHECK"))

setup(
    ext_modules=cythonize(
        [extension(pyx) for pyx in sorted(glob("src_pyx/*.pyx"))],
        # cythonize does not notice other directives, so each kind of build has its own folder.
        build_dir=f"build/{'checked' if checked else 'cython'}-{sysconfig.get_platform()}",
        include_path=["."],
        compiler_directives={
            "language_level": 3,
            "freethreading_compatible": True,
            "boundscheck": checked,
            "initializedcheck": checked,
            "cdivision": True,
        },
    ),
    cmdclass={"build_ext": BuildExtensions},
)
