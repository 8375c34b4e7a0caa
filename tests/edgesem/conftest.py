"""The compiled kernel, for tests that compare it with plain Python."""

import pytest

from edgesem.entropy.kernel import Kernel
from tests.support.rans import compile_kernel


@pytest.fixture(scope="session")
def compiled(tmp_path_factory) -> Kernel:
    """The kernel, of the source of now."""
    return Kernel(compile_kernel(tmp_path_factory.mktemp("kernel") / "libkernel.so"))
