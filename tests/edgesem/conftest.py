"""The compiled kernel, for tests that compare it with plain Python."""

import pytest

from edgesem.entropy import kernel
from edgesem.entropy.kernel import Kernel
from tests.support.rans import compile_kernel


@pytest.fixture(scope="session")
def compiled(tmp_path_factory) -> Kernel:
    """The kernel, of the source of now."""
    return Kernel(compile_kernel(tmp_path_factory.mktemp("kernel") / "libkernel.so"))


@pytest.fixture
def both(compiled, monkeypatch):
    """Do something in plain Python and with the kernel: both results."""

    def call(function, *args):
        results = []
        for loops in (None, compiled):
            monkeypatch.setattr(kernel, "load", lambda loops=loops: loops)
            results.append(function(*args))
        return results

    return call
