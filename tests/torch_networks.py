"""Two networks of the literature, each as a PyTorch module and, with its weights, in layers."""

import torch
from torch import nn

import pycnn
from pycnn import Add, BatchNorm, Concatenate, Conv2D, Dense, Dropout, GlobalAvgPool2D, MaxPool2D
from pycnn.layers import weights


class Fire(nn.Module):
    def __init__(self, channels, squeeze, expand):
        super().__init__()
        self.squeeze = nn.Conv2d(channels, squeeze, 1)
        self.expand1 = nn.Conv2d(squeeze, expand, 1)
        self.expand3 = nn.Conv2d(squeeze, expand, 3, padding=1)

    def forward(self, x):
        x = torch.relu(self.squeeze(x))
        return torch.cat([torch.relu(self.expand1(x)), torch.relu(self.expand3(x))], 1)


def squeezenet(classes=1000):
    """SqueezeNet 1.1 (Iandola et al., arXiv:1602.07360, and its authors' repository)."""
    return nn.Sequential(
        nn.Conv2d(3, 64, 3, stride=2),
        nn.ReLU(),
        nn.MaxPool2d(3, 2, ceil_mode=True),
        Fire(64, 16, 64),
        Fire(128, 16, 64),
        nn.MaxPool2d(3, 2, ceil_mode=True),
        Fire(128, 32, 128),
        Fire(256, 32, 128),
        nn.MaxPool2d(3, 2, ceil_mode=True),
        Fire(256, 48, 192),
        Fire(384, 48, 192),
        Fire(384, 64, 256),
        Fire(512, 64, 256),
        nn.Dropout(),
        nn.Conv2d(512, classes, 1),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
    )


class Residual(nn.Module):
    def __init__(self, channels, width, stride):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(channels, width, 3, stride, 1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            nn.Conv2d(width, width, 3, 1, 1, bias=False),
            nn.BatchNorm2d(width),
        )
        self.shortcut = nn.Sequential()
        if stride > 1 or channels != width:
            self.shortcut = nn.Sequential(
                nn.Conv2d(channels, width, 1, stride, bias=False), nn.BatchNorm2d(width)
            )

    def forward(self, x):
        return torch.relu(self.body(x) + self.shortcut(x))


def resnet(widths=(64, 128, 256, 512), blocks=2, classes=1000):
    """ResNet-18 (He et al., arXiv:1512.03385, table 1), or one like it."""
    layers = [
        nn.Conv2d(3, widths[0], 7, 2, 3, bias=False),
        nn.BatchNorm2d(widths[0]),
        nn.ReLU(),
        nn.MaxPool2d(3, 2, 1),
    ]
    channels = widths[0]
    for index, width in enumerate(widths):
        for block in range(blocks):
            layers.append(Residual(channels, width, 2 if index and not block else 1))
            channels = width
    return nn.Sequential(
        *layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, classes)
    )


def trained(module, seed=0):
    """Give a module the statistics and weights of one that was trained, roughly; return it."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, tensor in module.state_dict().items():
            if name.endswith(("running_var", "weight")) and tensor.ndim == 1:
                tensor.uniform_(0.5, 1.5, generator=generator)
            elif tensor.ndim == 1:
                tensor.normal_(0, 0.1, generator=generator)
            elif tensor.ndim > 1:
                tensor.normal_(0, (2 / tensor[0].numel()) ** 0.5, generator=generator)
    return module.eval()


def layer_of(module):
    """Return a PyTorch module as a layer."""
    state = module.state_dict()
    match module:
        case nn.Conv2d():
            return Conv2D.from_arrays(
                weights.conv_from_torch(state["weight"]),
                state.get("bias"),
                stride=module.stride,
                padding=module.padding,
                dilation=module.dilation,
                groups=module.groups,
            )
        case nn.BatchNorm2d():
            names = ("weight", "bias", "running_mean", "running_var")
            return BatchNorm.from_arrays(*(state[name] for name in names), epsilon=module.eps)
        case nn.Linear():
            return Dense.from_arrays(weights.dense_from_torch(state["weight"]), state["bias"])
        case nn.MaxPool2d():
            return MaxPool2D(
                module.kernel_size,
                module.stride,
                padding=module.padding,
                ceil_mode=module.ceil_mode,
            )
        case nn.ReLU():
            return pycnn.ReLU()
        case nn.Dropout():
            return Dropout(module.p)
        case nn.AdaptiveAvgPool2d():
            return GlobalAvgPool2D()
        case nn.Flatten():
            return pycnn.Flatten()
        case Fire():
            expand = [layer_of(module.expand1), layer_of(module.expand3)]
            return pycnn.Sequential(
                [
                    layer_of(module.squeeze),
                    pycnn.ReLU(),
                    Concatenate([[layer, pycnn.ReLU()] for layer in expand]),
                ]
            )
        case Residual():
            branches = [layer_of(module.body), layer_of(module.shortcut)]
            return pycnn.Sequential([Add(branches), pycnn.ReLU()])
        case nn.Sequential():
            return pycnn.Sequential([layer_of(child) for child in module])
    raise TypeError(f"not a module of these networks: {module!r}")
