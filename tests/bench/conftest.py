"""A tiny random decoder, and the stock model of the same weights."""

import pytest

from tests.actors.engine.conftest import build_tiny

__all__ = ["build_tiny", "family"]


@pytest.fixture
def family() -> str:
    return "llama"
