"""The extension modules; all metadata is in pyproject.toml.

Without a C compiler the kernels are left out, with a warning, and the package runs on their NumPy twins; without
libjpeg-turbo and its headers pictures are decoded whole.
IQA_KERNELS_DEBUG=1 turns Cython's checks back on.

One build serves Python 3.11 and later (abi3), but for free-threaded Python, which has no such interface before 3.15.
"""

import os
import sysconfig

from Cython.Build import cythonize
from setuptools import Extension, setup

OPTIONS = [] if os.name == "nt" else ["-O3", "-g0"]
DEBUG = os.environ.get("IQA_KERNELS_DEBUG") == "1"
ABI3 = not sysconfig.get_config_var("Py_GIL_DISABLED")
SHARED = {
    "extra_compile_args": OPTIONS,
    "define_macros": [("Py_LIMITED_API", "0x030B0000")] if ABI3 else [],
    "py_limited_api": ABI3,
}

modules = cythonize(
    [
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
            **SHARED,
        ),
        Extension(
            "iqa_runtime._jpeg_bands",
            sources=["csrc/jpeg/_jpeg_bands.pyx", "csrc/jpeg/bands.c"],
            depends=["csrc/jpeg/bands.h"],
            include_dirs=["csrc/jpeg"],
            libraries=["jpeg"],
            **SHARED,
        ),
    ],
    compiler_directives={
        "language_level": 3,
        "boundscheck": DEBUG,
        "initializedcheck": DEBUG,
        "wraparound": False,
        "freethreading_compatible": True,
    },
    force=True,  # a change of the directives alone would go unnoticed
)
for module in modules:
    module.optional = True  # cythonize would lose it

setup(ext_modules=modules, options={"bdist_wheel": {"py_limited_api": "cp311"}} if ABI3 else {})
