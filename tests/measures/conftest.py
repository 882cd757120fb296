"""Floats of either width."""

import jax
import pytest


@pytest.fixture(params=[False, True], ids=["float32", "float64"])
def x64(request):
    """Whether floats are float64: both, in turn."""
    with jax.enable_x64(request.param):
        yield request.param


@pytest.fixture
def float64():
    """Floats are float64."""
    with jax.enable_x64(True):
        yield
