"""Networks of the literature, with PyTorch's weights, give PyTorch's results."""

import numpy as np
import pytest

pytest.importorskip("torch")

import torch
import torch_networks
from torch import nn

import pycnn
from pycnn.layers import weights

NETWORKS = {
    "SqueezeNet 1.1": (torch_networks.squeezenet, (64, 80), 1_235_496),
    "ResNet-18": (torch_networks.resnet, (48, 64), 11_689_512),
    "small ResNet": (lambda: torch_networks.resnet((8, 16), 2, 10), (33, 47), None),
}


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_agrees_with_pytorch(name, dtype, rng):
    make, size, n_parameters = NETWORKS[name]
    module = torch_networks.trained(make().to(getattr(torch, np.dtype(dtype).name)))
    net = torch_networks.layer_of(module)
    x = rng.standard_normal((3, *size, 3)).astype(dtype)
    with torch.inference_mode():
        expected = module(torch.from_numpy(x).permute(0, 3, 1, 2)).numpy()
    atol = (1e-5 if dtype is np.float32 else 1e-12) * np.abs(expected).max()
    actual = net(x)
    assert actual.dtype == dtype
    np.testing.assert_allclose(actual, expected, 0, atol)
    np.testing.assert_allclose(list(net.feature_maps(x).values())[-1], expected, 0, atol)
    np.testing.assert_array_equal(net.predict(x, 2), actual)
    np.testing.assert_array_equal(net(x[1]), actual[1])
    summary = net.summary()
    assert summary.n_parameters == sum(p.numel() for p in module.parameters())
    assert n_parameters in (None, summary.n_parameters)


def test_multiply_adds_of_the_literature():
    """The 1.8 billion of He et al., table 1, and torchvision's 0.35 billion for SqueezeNet 1.1."""
    resnet = torch_networks.layer_of(torch_networks.resnet())
    assert resnet.summary((224, 224, 3)).multiply_adds == 1_814_073_344
    squeezenet = torch_networks.layer_of(torch_networks.squeezenet())
    assert squeezenet.summary((224, 224, 3)).multiply_adds == 349_151_936


@pytest.mark.parametrize("groups", [1, 2, 6])
def test_weights_of_convolutions_in_groups(rng, groups):
    module = nn.Conv2d(6, 12, (3, 2), stride=2, padding=1, dilation=(1, 2), groups=groups)
    x = rng.standard_normal((2, 11, 12, 6)).astype(np.float32)
    with torch.inference_mode():
        expected = module(torch.from_numpy(x).permute(0, 3, 1, 2)).permute(0, 2, 3, 1).numpy()
    np.testing.assert_allclose(torch_networks.layer_of(module)(x), expected, 1e-5, 1e-5)


def test_a_linear_layer_behind_flattened_maps(rng):
    """The LeNet of PyTorch's tutorials: its first linear layer counts channels first."""
    module = nn.Sequential(
        nn.Conv2d(1, 6, 5),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(6, 16, 5),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(16 * 4 * 5, 10),
    )
    net = torch_networks.layer_of(module)
    state = module[7].state_dict()
    dense = pycnn.Dense.from_arrays(
        weights.dense_from_torch(state["weight"], image_shape=(4, 5, 16)), state["bias"]
    )
    net = pycnn.Sequential([*net.layers[:-1], dense])
    x = rng.standard_normal((3, 28, 32, 1)).astype(np.float32)
    with torch.inference_mode():
        expected = module(torch.from_numpy(x).permute(0, 3, 1, 2)).numpy()
    np.testing.assert_allclose(net(x), expected, 1e-4, 1e-5)
