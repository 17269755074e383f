"""Each instruction set the machine has really computes when PYCNN_CPU names it."""

import platform

import pytest
from children import run_well

from pycnn import config

LEVELS = config.get_config()["cpu"]["levels"]
USABLE = [name for name, available in LEVELS.items() if available]
LANES = {"generic": 4, "neon": 4, "avx2": 8, "avx512": 16}
# A matrix unit in software (.ci/software_amx) goes with the best vectors there are.
LANES["amx"] = LANES["avx512" if LEVELS.get("avx512") else "avx2"]

# (1 + u)**2 is 1 + 2u + u**2. A multiplication of its own rounds u**2 away; a fused one adds the
# exact product to the sum before it, if there is one: hence both orders.
FUSED = """
import numpy as np, pycnn
u = np.float32(2**-12)
x, w = np.float32([[[1, 1 + u]]]), np.float32([[[-(1 + 2 * u), 1 + u]]])
sums = [pycnn.conv2d(x[:, :, ::step], w[None, :, :, ::step]).item() for step in (1, -1)]
print(u * u in sums)
"""

# A depthwise convolution needs as many channels as a vector has lanes.
NARROWEST = """
import numpy as np
from pycnn import _conv
f4 = np.dtype(np.float32).num
for n in range(2, 65):
    shapes = (1, 9, 9, n), (n, 3, 3, 1), (7, 7)
    if _conv.ConvPlan(f4, *shapes, (1, 1), (0, 0), (1, 1), n).algorithm == "depthwise":
        print(n)
        break
"""


@pytest.mark.parametrize("level", USABLE)
def test_the_vectors_have_the_width_of_the_level(level):
    assert int(run_well("-c", NARROWEST, PYCNN_CPU=level)) == LANES[level]


@pytest.mark.parametrize("level", USABLE)
def test_products_are_fused_where_the_level_can(level):
    fused = level != "generic" or platform.machine() not in ("x86_64", "AMD64")
    assert run_well("-c", FUSED, PYCNN_CPU=level).strip() == str(fused)
