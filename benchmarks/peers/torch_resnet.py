"""The default network in PyTorch, with the weights of ours: the peer of inference.py and training.py.

Run by them as `torch_resnet.py inference|training FOLDER`; the folder is written by common.save_case. Needs torch and
numpy, not lensjax. Layout (N, C, P), PyTorch's own; everything else is as in lensjax/models/resnet1d.py and heads.py.
"""

import functools
import json
import math
import pathlib
import sys
import warnings

import common
import numpy as np
import torch
from torch import nn
from torch.nn import functional as F
from torch_features import Features

LINEAR_SNR, MAX_LOG_GAIN, EXCLUDED = 5.0, 5.0, -1e9  # models/heads.py
CHUNKS = (32, 128, 256)  # spectra of one pass; the best of them is the peer


def fill(layer: nn.Module, weights: dict[str, np.ndarray], name: str) -> None:
    """Weights of one layer: kernels (K, C, D) and (C, D) of ours become (D, C, K) and (D, C)."""
    kernel = torch.from_numpy(weights[f"{name}/kernel"]).movedim(-1, 0)
    kernel = kernel.movedim(-1, 1) if kernel.ndim == 3 else kernel
    layer.weight.copy_(kernel.reshape(layer.weight.shape))
    layer.bias.copy_(torch.from_numpy(weights[f"{name}/bias"]))


class Block(nn.Module):
    """relu(shortcut(x) + skip * branch(x)), three convolutions in the branch."""

    def __init__(self, before: int, width: int, project: bool, size: int):
        super().__init__()
        sizes = [(before, width), (width, width), (width, width)]
        self.branch = nn.ModuleList(nn.Conv1d(i, o, size, padding=size // 2) for i, o in sizes)
        self.shortcut = nn.Conv1d(before, width, 1) if project else nn.Identity()
        self.skip = nn.Parameter(torch.zeros(()))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        branch = F.relu(self.branch[0](x))
        branch = F.relu(self.branch[1](branch))
        return F.relu(self.shortcut(x) + self.branch[2](branch) * self.skip)


class ResNet(nn.Module):
    """x (N, C, P), snr (N, P), mask (N, P) -> logit (N,), pixel_logit (N, P)."""

    def __init__(self, weights: dict[str, np.ndarray], settings: dict):
        super().__init__()
        self.fold, widths = settings["fold"], settings["widths"]
        before = [weights["Block_0/Conv_0/kernel"].shape[1], *widths[:-1]]
        project = [f"Block_{i}/Conv_3/kernel" in weights for i in range(len(widths))]
        make = zip(before, widths, project, strict=True)
        self.blocks = nn.ModuleList(Block(b, w, p, settings["kernel_size"]) for b, w, p in make)
        self.pixel = nn.ModuleList(nn.Conv1d(w, 2 * self.fold, 1) for w in widths)
        self.bias = nn.Parameter(torch.zeros(()))
        self.pooled = nn.Linear(2 * widths[-1], 1)
        self._load(weights)

    def _load(self, weights: dict[str, np.ndarray]) -> None:
        with torch.no_grad():
            for i, block in enumerate(self.blocks):
                layers = [*block.branch, block.shortcut]
                for j, layer in enumerate(layers[: 3 + isinstance(block.shortcut, nn.Conv1d)]):
                    fill(layer, weights, f"Block_{i}/Conv_{j}")
                block.skip.fill_(float(weights[f"Block_{i}/skip"]))
                fill(self.pixel[i], weights, f"PixelHead_0/pixel_{i}")
            self.bias.fill_(float(weights["PixelHead_0/bias"]))
            fill(self.pooled, weights, "PooledHead_0/Dense_0")

    def forward(self, x: torch.Tensor, snr: torch.Tensor, mask: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        n, c, p = x.shape
        x = x.reshape(n, c, p // self.fold, self.fold).permute(0, 3, 1, 2).reshape(n, c * self.fold, p // self.fold)
        outputs = []
        for i, block in enumerate(self.blocks):
            outputs.append(block(x if i == 0 else F.max_pool1d(outputs[-1], 2, ceil_mode=True)))
        pixel_logit = self._locate(outputs, snr, mask)
        total = torch.where(mask.any(1), torch.logsumexp(pixel_logit, 1), torch.zeros_like(snr[:, 0])) - math.log(p)
        last = outputs[-1]
        return total + self.pooled(torch.cat([last.amax(2), last.mean(2)], 1))[:, 0], pixel_logit

    def _locate(self, outputs: list[torch.Tensor], snr: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        total = self.pixel[-1](outputs[-1])
        for layer, x in zip(reversed(self.pixel[:-1]), reversed(outputs[:-1]), strict=True):
            here = layer(x)
            total = here + torch.repeat_interleave(total, 2, 2)[..., : here.shape[2]]
        n, _, q = total.shape
        total = total.reshape(n, 2, self.fold, q).transpose(2, 3).reshape(n, 2, q * self.fold)
        inner = snr.clamp(0.0, LINEAR_SNR)
        half_square = inner * (snr.clamp_min(0.0) - 0.5 * inner)
        start = total[:, 0].clamp(-MAX_LOG_GAIN, MAX_LOG_GAIN).exp() * half_square + total[:, 1] + self.bias
        return torch.where(mask, start, torch.full_like(start, EXCLUDED))


def objective(logit, pixel_logit, label, target, settings: dict) -> torch.Tensor:
    """Focal loss and localisation, as lensjax/tasks/losses.py."""
    cross = F.binary_cross_entropy_with_logits(logit, label, reduction="none")
    wrong = torch.sigmoid(logit * (1 - 2 * label))
    entropy = -(target * F.log_softmax(pixel_logit, 1)).sum(1)
    locate = (label * entropy).sum() / label.sum().clamp_min(1.0)
    return (wrong ** settings["gamma"] * cross).mean() + settings["locate_weight"] * locate


class Scoring(nn.Module):
    """flux, ivar (N, P), z (N,) -> logit (N,), pixel_logit (N, P): features and network."""

    def __init__(self, features: Features, network: ResNet):
        super().__init__()
        self.features, self.network = features, network

    def forward(self, flux: torch.Tensor, ivar: torch.Tensor, z: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return self.network(*self.features(flux, ivar, z))


def inference(
    model: nn.Module, inputs: list[torch.Tensor], expected: np.ndarray, name: str, chunks: tuple[int, ...] = CHUNKS
) -> dict:
    """torch.jit.freeze and optimize_for_inference, one trace for each number of spectra in a pass.

    Its logits must be the `expected` ones (N,), but for one spectrum in fifty: where a mask ends between two pixels,
    the last digit decides.
    """
    model.eval()
    measures = {}
    for chunk in chunks:
        pieces = list(zip(*(x.split(chunk) for x in inputs), strict=True))
        with torch.inference_mode():
            traced = torch.jit.freeze(torch.jit.trace(model, pieces[0], check_trace=False))
            traced = torch.jit.optimize_for_inference(traced)
            logit = torch.cat([traced(*piece)[0] for piece in pieces]).numpy()
        same = np.isclose(logit, expected, rtol=2e-3, atol=2e-3)
        assert same.mean() >= 0.98, f"{name}: {np.sum(~same)} of {len(same)} logits differ from ours"

        def run(traced=traced, pieces=pieces) -> None:
            with torch.inference_mode():
                for piece in pieces:
                    traced(*piece)

        measures[f"{name}, {chunk} a pass"] = functools.partial(common.rate, run, len(expected))
    return measures


def training(model: ResNet, inputs: list[torch.Tensor], arrays: dict, settings: dict) -> dict:
    """Eager mode, AdamW in its fused form, gradients clipped."""
    optimiser = torch.optim.AdamW(model.parameters(), 1e-5, weight_decay=settings["weight_decay"], fused=True)
    label, target = torch.from_numpy(arrays["label"]), torch.from_numpy(arrays["target"])

    def step() -> float:
        optimiser.zero_grad()
        loss = objective(*model(*inputs), label, target, settings)
        loss.backward()
        norm = nn.utils.clip_grad_norm_(model.parameters(), settings["clip_norm"])
        optimiser.step()
        return loss.item(), norm.item()

    np.testing.assert_allclose(step(), [arrays["loss"], arrays["grad_norm"]], rtol=1e-3)
    return {"training, network alone": lambda: common.rate(step, len(label))}


def main() -> None:
    case, folder = sys.argv[1], pathlib.Path(sys.argv[2])
    for kind in (DeprecationWarning, torch.jit.TracerWarning):  # the pixel count is a constant of the trace
        warnings.filterwarnings("ignore", category=kind)
    torch.manual_seed(0)
    settings = json.loads((folder / "settings.json").read_text())
    arrays = dict(np.load(folder / "arrays.npz"))
    model = ResNet(dict(np.load(folder / "weights.npz")), settings)
    x = torch.from_numpy(arrays["x"]).transpose(1, 2).contiguous()
    inputs = [x, torch.from_numpy(arrays["snr"]), torch.from_numpy(arrays["mask"])]
    if case == "training":
        return common.serve(training(model, inputs, arrays, settings))
    scoring = Scoring(Features(dict(np.load(folder / "features.npz"))), model)
    observed = [torch.from_numpy(arrays[name]) for name in ("flux", "ivar", "z")]
    common.serve(
        inference(model, inputs, arrays["logit"], "network")
        | inference(scoring, observed, arrays["logit"], "features and network")
    )


if __name__ == "__main__":
    main()
