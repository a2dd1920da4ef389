"""The network of Zhao et al. (2019) in PyTorch, with the weights of ours: the peer of mgii_inference.py.

Run by it as `torch_cnn.py inference FOLDER`. Needs torch and numpy, not lensjax. Layout (N, C, P), PyTorch's own.
"""

import pathlib
import sys

import common
import numpy as np
import torch
from torch import nn
from torch_resnet import fill, inference

POOLED = (True, True, False, False, True)  # models/cnn1d.py
CHUNKS = (4, 8, 16, 32, 128)  # spectra of one pass; the best of them is the peer


class CNN(nn.Module):
    """x (N, C, P) -> (logit (N,),)."""

    def __init__(self, weights: dict[str, np.ndarray]):
        super().__init__()
        steps: list[nn.Module] = []
        for i, pooled in enumerate(POOLED):
            size, before, width = weights[f"Conv_{i}/kernel"].shape
            steps += [nn.Conv1d(before, width, size, 1 if i else 5), nn.ReLU()]
            steps += [nn.MaxPool1d(3)] if pooled else []
        self.convolutions = nn.Sequential(*steps)
        widths = [weights[f"DenseHead_0/Dense_{i}/kernel"].shape for i in range(3)]
        self.dense = nn.ModuleList(nn.Linear(*shape) for shape in widths)
        with torch.no_grad():
            found = [layer for layer in steps if isinstance(layer, nn.Conv1d)]
            for i, layer in enumerate(found):
                fill(layer, weights, f"Conv_{i}")
            for i, layer in enumerate(self.dense):
                fill(layer, weights, f"DenseHead_0/Dense_{i}")
            # Ours lays pixels before channels.
            last = self.dense[0].weight
            last.copy_(last.reshape(len(last), -1, found[-1].out_channels).transpose(1, 2).reshape(last.shape))

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor]:
        x = self.convolutions(x).flatten(1)
        x = torch.relu(self.dense[1](torch.relu(self.dense[0](x))))
        return (self.dense[2](x)[:, 0],)


def main() -> None:
    folder = pathlib.Path(sys.argv[2])
    torch.manual_seed(0)
    arrays = dict(np.load(folder / "arrays.npz"))
    x = torch.from_numpy(arrays["x"]).transpose(1, 2).contiguous()
    common.serve(inference(CNN(dict(np.load(folder / "weights.npz"))), [x], arrays["logit"], "network", CHUNKS))


if __name__ == "__main__":
    main()
