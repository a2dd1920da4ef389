"""The input channels of the default network in PyTorch, as lensjax/tasks/features.py computes them: batched operations.

So that scoring from flux to logit can be timed beside ours, not the network alone. `constants` is what
`inference.py` writes from our own modules.
"""

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

STEP, FAINTEST, CLIP, ERROR_SCALE = 1e-4, 0.05, 20.0, 0.5  # as in tasks/features.py
LOG_10 = float(np.log(10.0))
SCATTER_CLIP, SCATTER_STEPS, SCATTER_VARIANCE, SHRINK = 3.0, 8, 0.973337, 0.09
LENS_PIXELS, VETO_PIXELS = 10.0, 5.0


class Features(nn.Module):
    """flux, ivar (N, P), z (N,) -> channels x (N, 12, P), snr (N, P), mask (N, P)."""

    def __init__(self, constants: dict[str, np.ndarray]):
        super().__init__()
        for name, value in constants.items():
            self.register_buffer(name, torch.from_numpy(np.ascontiguousarray(value)))
        self.num = self.polynomials.shape[1]
        self.half = self.kernels.shape[1] // 2
        self.register_buffer("squares", self.kernels**2)
        self.register_buffer("by_pixel", self.templates.T.contiguous())

    def forward(self, flux: torch.Tensor, ivar: torch.Tensor, z: torch.Tensor) -> tuple[torch.Tensor, ...]:
        shift = (torch.log(1 + z) / LOG_10)[:, None] / STEP  # to the last digit as ours
        mask = (ivar > 0) & ~self._near(self.lens_lines + shift, LENS_PIXELS)
        ivar = torch.where(mask, ivar, torch.zeros_like(ivar))
        root = ivar.sqrt()
        model = self._continuum(flux, ivar, shift)
        pull = (flux - model) * root
        scale = self._scatter(pull, mask)
        snr = self._filters(pull / scale * root, ivar)
        half_square = 0.5 * snr.clamp_min(0.0) ** 2 + self.log_prior[:, None]
        best = (2 * torch.logsumexp(half_square, 1).clamp_min(1e-6)).sqrt()
        log_error = torch.where(mask, -0.5 * torch.log(torch.where(mask, ivar, torch.ones_like(ivar))), -self.log_scale)
        veto = self._near(torch.cat([self.rest_lines + shift, self.sky_lines.expand(len(z), -1)], 1), VETO_PIXELS)
        channels = [
            (pull / scale).clamp(-CLIP, CLIP)[:, None],
            snr.clamp(-CLIP, CLIP),
            (log_error + self.log_scale)[:, None],
            mask.float()[:, None],
            torch.log1p((model * root).clamp_min(0.0))[:, None],
            scale.log()[:, None].expand(-1, 1, self.num),
            veto.float()[:, None],
        ]
        return torch.cat(channels, 1), torch.where(mask, best, torch.zeros_like(best)), mask

    @property
    def log_scale(self) -> float:
        return float(-np.log(ERROR_SCALE))

    def _near(self, places: torch.Tensor, pixels: float) -> torch.Tensor:
        """Whether each pixel is within `pixels` of one of `places` (N, L): (N, P)."""
        return ((self.pixels[:, None] - places[:, None, :]).abs() <= pixels).any(2)

    def _continuum(self, flux: torch.Tensor, ivar: torch.Tensor, shift: torch.Tensor) -> torch.Tensor:
        position = self.start - shift
        whole = position.floor()
        fraction = (position - whole)[..., None]
        piece = self.by_pixel[whole.long() + torch.arange(self.num + 1)]
        shifted = (piece[:, :-1] * (1 - fraction) + piece[:, 1:] * fraction).transpose(1, 2)
        design = torch.cat([shifted, self.polynomials.expand(len(flux), -1, -1)], 1)
        mean = design[:, 0]
        brightness = (ivar * mean * flux).sum(1) / (ivar * mean**2).sum(1).clamp_min(1e-6)
        width = brightness.clamp_min(FAINTEST)[:, None] * self.relative + self.floor
        weighted = design * ivar[:, None]
        gram = weighted @ design.transpose(1, 2) + torch.diag_embed(width**-2.0)
        moment = (weighted @ flux[..., None])[..., 0]
        scale = torch.diagonal(gram, dim1=1, dim2=2).clamp_min(1e-30).rsqrt()
        gram = gram * scale[:, :, None] * scale[:, None] + 1e-6 * torch.eye(gram.shape[1])
        solution = torch.cholesky_solve((moment * scale)[..., None], torch.linalg.cholesky(gram))[..., 0] * scale
        return (solution[:, None] @ design)[:, 0]

    def _scatter(self, pull: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        square = pull**2
        variance = square.sum(1, keepdim=True) / mask.sum(1, keepdim=True).clamp_min(1)
        for _ in range(SCATTER_STEPS):
            inside = mask & (square <= SCATTER_CLIP**2 * variance)
            variance = (square * inside).sum(1, keepdim=True) / inside.sum(1, keepdim=True).clamp_min(1)
            variance = variance / SCATTER_VARIANCE
        log_scale = (0.5 * torch.log(variance.clamp_min(1e-12))).clamp(float(np.log(0.3)), float(np.log(10.0)))
        return torch.exp(log_scale * (1 - torch.exp(-((log_scale / SHRINK) ** 2))))

    def _filters(self, signal: torch.Tensor, ivar: torch.Tensor) -> torch.Tensor:
        numerator = F.conv1d(signal[:, None], self.kernels[:, None], padding=self.half)
        weight = F.conv1d(ivar[:, None], self.squares[:, None], padding=self.half)
        return torch.where(weight > 0, numerator * weight.clamp_min(1e-30).rsqrt(), torch.zeros_like(weight))
