"""The extension module; all metadata is in pyproject.toml.

Without a C compiler the extension is left out, with a warning, and the package runs on its NumPy twin.
IQA_KERNELS_DEBUG=1 turns Cython's checks back on.
"""

import os

from Cython.Build import cythonize
from setuptools import Extension, setup

DEBUG = os.environ.get("IQA_KERNELS_DEBUG") == "1"

[kernels] = cythonize(
    Extension(
        "iqa_runtime._kernels",
        sources=[
            "csrc/_kernels.pyx",
            "csrc/instruction_sets.c",
            "csrc/patches.c",
            "csrc/patches_avx2.c",
            "csrc/patches_avx512.c",
            "csrc/patches_neon.c",
            "csrc/resize.c",
            "csrc/resize_avx2.c",
            "csrc/resize_avx512.c",
            "csrc/color.c",
            "csrc/color_avx2.c",
            "csrc/color_avx512.c",
        ],
        depends=["csrc/instruction_sets.h", "csrc/patches.h", "csrc/resize.h", "csrc/color.h"],
        include_dirs=["csrc"],
        extra_compile_args=[] if os.name == "nt" else ["-O3", "-g0"],
    ),
    compiler_directives={
        "language_level": 3,
        "boundscheck": DEBUG,
        "initializedcheck": DEBUG,
        "wraparound": False,
        "freethreading_compatible": True,
    },
    force=True,  # a change of the directives alone would go unnoticed
)
kernels.optional = True  # cythonize would lose it

setup(ext_modules=[kernels])
