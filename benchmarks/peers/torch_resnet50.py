"""ResNet50 and MoCo v2 in plain PyTorch, with torchvision's names of the arrays: the peer of resnet50.py.

`torch_resnet50.py reference FILE [WIDTH]` writes random weights, images and their features, which a test compares with
ours. `inference FOLDER` and `training FOLDER` answer benchmarks/resnet50.py. Needs torch and numpy, not lensjax.
"""

import copy
import functools
import pathlib
import sys
from collections.abc import Callable

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

MOMENTUM, TEMPERATURE = 0.996, 0.2
SECONDS = 8.0  # of one measure


class Bottleneck(nn.Module):
    def __init__(self, before: int, width: int, stride: int):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(before, width, 1, bias=False), nn.BatchNorm2d(width)
        self.conv2, self.bn2 = nn.Conv2d(width, width, 3, stride, 1, bias=False), nn.BatchNorm2d(width)
        self.conv3, self.bn3 = nn.Conv2d(width, 4 * width, 1, bias=False), nn.BatchNorm2d(4 * width)
        self.downsample = None
        if stride > 1 or before != 4 * width:
            conv = nn.Conv2d(before, 4 * width, 1, stride, bias=False)
            self.downsample = nn.Sequential(conv, nn.BatchNorm2d(4 * width))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        branch = F.relu(self.bn1(self.conv1(x)))
        branch = F.relu(self.bn2(self.conv2(branch)))
        branch = self.bn3(self.conv3(branch))
        return F.relu(branch + (x if self.downsample is None else self.downsample(x)))


class ResNet50(nn.Module):
    """images (N, 3, H, W) -> features (N, 32 width)."""

    def __init__(self, width: int = 64):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, width, 7, 2, 3, bias=False), nn.BatchNorm2d(width)
        before = width
        for stage, blocks in enumerate((3, 4, 6, 3)):
            layers = []
            for i in range(blocks):
                stride = 2 if stage and i == 0 else 1
                layers.append(Bottleneck(before, width * 2**stage, stride))
                before = 4 * width * 2**stage
            setattr(self, f"layer{stage + 1}", nn.Sequential(*layers))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.max_pool2d(F.relu(self.bn1(self.conv1(x))), 3, 2, 1)
        return self.layer4(self.layer3(self.layer2(self.layer1(x)))).mean((2, 3))


class Moco(nn.Module):
    """The query or the key encoder: unit projections (N, 128)."""

    def __init__(self, width: int = 64):
        super().__init__()
        self.encoder = ResNet50(width)
        self.head = nn.Sequential(nn.Linear(32 * width, 32 * width), nn.ReLU(), nn.Linear(32 * width, 128))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.normalize(self.head(self.encoder(x)))


def reference(path: str, width: int) -> None:
    """Weights with statistics that are not trivial, images, and the features of inference mode."""
    torch.manual_seed(0)
    model = ResNet50(width)
    for layer in model.modules():
        if isinstance(layer, nn.BatchNorm2d):
            nn.init.uniform_(layer.weight, 0.5, 1.5)
            nn.init.normal_(layer.bias, 0, 0.1)
            nn.init.normal_(layer.running_mean, 0, 0.1)
            nn.init.uniform_(layer.running_var, 0.5, 2.0)
    images = torch.randn(2, 3, 96, 96)
    with torch.inference_mode():
        features = model.eval()(images)
    state = {f"module.encoder_q.{name}": value.numpy() for name, value in model.state_dict().items()}
    np.savez(path, **state, images=images.permute(0, 2, 3, 1).numpy(), features=features.numpy())


def inference(folder: pathlib.Path) -> dict:
    """torch.jit.freeze and optimize_for_inference, on the weights and images of ours; their features must agree."""
    import common

    arrays = dict(np.load(folder / "arrays.npz"))
    model = ResNet50()
    model.load_state_dict(
        {k: torch.from_numpy(v) for k, v in dict(np.load(folder / "state.npz")).items()}, strict=False
    )
    images = torch.from_numpy(arrays["images"]).permute(0, 3, 1, 2).contiguous()
    measures = {}
    for chunk in (8, 32):
        pieces = images.split(chunk)
        with torch.inference_mode():
            traced = torch.jit.freeze(torch.jit.trace(model.eval(), pieces[0], check_trace=False))
            traced = torch.jit.optimize_for_inference(traced)
            features = torch.cat([traced(piece) for piece in pieces]).numpy()
        np.testing.assert_allclose(features, arrays["features"], rtol=1e-3, atol=1e-5 * arrays["features"].max())

        def run(traced=traced, pieces=pieces) -> None:
            with torch.inference_mode():
                for piece in pieces:
                    traced(piece)

        measures[f"inference, {chunk} a pass"] = functools.partial(common.rate, run, len(images), SECONDS)
    return measures


def training(folder: pathlib.Path) -> dict:
    """One MoCo v2 step on given views: two encoders, InfoNCE, backward, SGD, momentum, queue; channels_last."""
    arrays = dict(np.load(folder / "arrays.npz"))
    measures = {}
    for batch in (32, len(arrays["views"][0])):
        measures[f"MoCo step, {batch} at once"] = stepper(arrays["views"][:, :batch], arrays["queue"])
    return measures


def stepper(views: np.ndarray, keys: int) -> Callable[[], float]:
    """Measures views a second of steps on (2, N, H, W, 3), with a queue of so many keys."""
    import common

    layout = torch.channels_last
    query = Moco().to(memory_format=layout).train()
    key = copy.deepcopy(query)
    queue = F.normalize(torch.randn(keys, 128))
    optimiser = torch.optim.SGD(query.parameters(), 1e-4, momentum=0.9, weight_decay=1e-4)
    one, two = (torch.from_numpy(x).permute(0, 3, 1, 2).to(memory_format=layout) for x in views)
    labels, where = torch.zeros(len(one), dtype=torch.long), 0

    def step() -> float:
        nonlocal where
        with torch.no_grad():
            for slow, fast in zip(key.parameters(), query.parameters(), strict=True):
                slow.lerp_(fast, 1 - MOMENTUM)
            positive = key(two)
        projected = query(one)
        same = (projected * positive).sum(1, keepdim=True)
        loss = F.cross_entropy(torch.cat([same, projected @ queue.T], 1) / TEMPERATURE, labels)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        queue[where : where + len(one)] = positive
        where = (where + len(one)) % len(queue)
        return loss.item()

    return lambda: common.warm_rate(step, len(one), SECONDS)


def main() -> None:
    case, where = sys.argv[1], sys.argv[2]
    if case == "reference":
        return reference(where, int(sys.argv[3]) if len(sys.argv) > 3 else 64)
    import common

    torch.manual_seed(0)
    common.serve({"inference": inference, "training": training}[case](pathlib.Path(where)))


if __name__ == "__main__":
    main()
