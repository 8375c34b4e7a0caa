"""The part of the build that pyproject.toml cannot say: the compiled kernel of the entropy coder.

It is optional. Where there is no C compiler (`CC` names one, `cc` otherwise), or it fails, what is installed is plain
Python and does the same. The kernel knows nothing of Python, so a wheel with it fits every Python 3 on its platform.
"""

from __future__ import annotations

import os
import shlex
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build_ext import build_ext

# No other library, not even libc, so no oldest version of one; nothing that differs from build to build
SOURCES = ["edgesem/entropy/kernel.c", "edgesem/entropy/context.c", "edgesem/entropy/search.c"]
HEADERS = ["edgesem/entropy/instruction_sets.h", "edgesem/entropy/layer.h"]
FLAGS = "-std=c99 -O3 -ffreestanding -ffp-contract=off -fPIC -fvisibility=hidden -shared -nostdlib -g0 -s"


class BuildKernel(build_ext):
    """Compiles by itself: the flags that Python was built with are for another machine when CC compiles for one."""

    def get_ext_filename(self, fullname: str) -> str:
        return os.path.join(*fullname.split(".")) + ".so"

    def build_extension(self, ext: Extension) -> None:
        target = self.get_ext_fullpath(ext.name)
        self.mkpath(os.path.dirname(target))
        compiler = shlex.split(os.environ.get("CC", "")) or ["cc"]
        self.spawn([*compiler, *FLAGS.split(), *map(str, ext.sources), "-o", target])


class KernelWheel(bdist_wheel):
    """A wheel for one platform with the kernel, and for any without."""

    def run(self) -> None:
        self.run_command("build")
        built = self.get_finalized_command("build_ext").get_outputs()
        if not all(Path(path).exists() for path in built):
            self.distribution.ext_modules, self.root_is_pure = None, True
        super().run()

    def get_tag(self) -> tuple[str, str, str]:
        return ("py3", "none", "any" if self.root_is_pure else super().get_tag()[2])


setup(
    ext_modules=[Extension("edgesem.entropy.libkernel", SOURCES, depends=HEADERS, optional=True)],
    cmdclass={"build_ext": BuildKernel, "bdist_wheel": KernelWheel},
)
