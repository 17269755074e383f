"""What all tests share: how many examples hypothesis generates, and a seeded generator."""

import os

# Before anything imports SciPy: without it scikit-learn skips one of its checks of estimators.
os.environ["SCIPY_ARRAY_API"] = "1"
# Before anything imports NumPy: where two processes run tests, or others keep the CPUs busy, the
# threads of BLAS wait for each other for most of the time.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np
import pytest
from hypothesis import HealthCheck, settings

_COMMON = {
    "deadline": None,
    "print_blob": True,
    "suppress_health_check": [HealthCheck.too_slow, HealthCheck.data_too_large],
}
settings.register_profile("dev", max_examples=25, **_COMMON)
settings.register_profile("ci", max_examples=120, **_COMMON)
settings.register_profile("nightly", max_examples=4000, **_COMMON)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "dev"))


@pytest.fixture
def rng():
    """Return a generator that gives every test the same numbers on every run."""
    return np.random.default_rng(20240229)


@pytest.fixture(scope="session")
def chelsea():
    """Return the tutorial's image: scikit-image's cat in grey, float64, 300 x 451."""
    from skimage import color, data

    return color.rgb2gray(data.chelsea())


@pytest.fixture(scope="session")
def hostile_calls():
    """Return how many bad calls one child process makes up; it follows hypothesis' profile."""
    return 40 * settings().max_examples
