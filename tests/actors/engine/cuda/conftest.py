"""The kernel on a CPU: Triton's interpreter, with one defect of it mended."""

from collections.abc import Iterator
from typing import Any

import pytest


@pytest.fixture(scope="session")
def interpreter() -> Iterator[None]:
    """What runs the kernel here needs this; skips where triton is not installed, or is not the
    interpreter."""
    triton = pytest.importorskip("triton", reason="triton is not installed (700 MB)")
    if not triton.knobs.runtime.interpret:
        pytest.skip("a GPU is here: tests/gpu runs the kernel on it")
    from triton.runtime.interpreter import InterpreterBuilder

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(InterpreterBuilder, "create_dot", _dot(InterpreterBuilder.create_dot))
        yield


def _dot(create_dot: Any) -> Any:
    """Triton 3.7's interpreter multiplies bfloat16 by its bits, as integers."""
    import triton.language as tl

    def dot(self: Any, a: Any, b: Any, *rest: Any) -> Any:
        if a.dtype.scalar == tl.bfloat16:
            a, b = (self.cast_impl(x, tl.float32) for x in (a, b))
        return create_dot(self, a, b, *rest)

    return dot
