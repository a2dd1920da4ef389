"""The residual network of Li et al. (2018, section 3.3): 8 blocks, 28 convolutions, a pixel head if wanted."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from lensjax.core.errors import UserError
from lensjax.models import heads, layers

NORMS = ("batch", "none")
CONVOLUTIONS_PER_BLOCK = 3


def projection_blocks(widths: tuple[int, ...]) -> tuple[int, ...]:
    """Which blocks carry a 1x1 projection on their shortcut.

    Those whose width differs from the one before (the first always does), then even blocks until half of the blocks
    have one: 28 convolutions for 8 blocks. UserError if the widths change more often than that.
    """
    count = len(widths) // 2
    changed = [i for i in range(len(widths)) if i == 0 or widths[i] != widths[i - 1]]
    if len(changed) > count:
        raise UserError(
            f"model.widths {tuple(widths)} changes width in {len(changed)} blocks (the first counts), but only {count} "
            f"of {len(widths)} blocks have a projection: repeat widths in pairs, as in (8, 8, 16, 16, 32, 32, 48, 48)"
        )
    spare = [i for i in (*range(0, len(widths), 2), *range(1, len(widths), 2)) if i not in changed]
    return tuple(sorted(changed + spare[: count - len(changed)]))


class Block(nn.Module):
    """`depth` convolutions, the first in steps of `stride`, and a shortcut (He et al. 2015): relu(shortcut + branch).

    norm "batch" normalises after every convolution. norm "none" scales the branch by one learned number that starts at
    zero (SkipInit, De & Smith 2020), so that the network starts as a shallow one and trains without normalisation.
    """

    width: int
    project: bool
    size: int = 3
    norm: str = "batch"
    dtype: jnp.dtype = jnp.float32
    depth: int = CONVOLUTIONS_PER_BLOCK
    stride: int = 1

    def _normalise(self, x: jax.Array, train: bool) -> jax.Array:
        if self.norm == "none":
            return x
        return nn.BatchNorm(use_running_average=not train, momentum=0.95, dtype=self.dtype)(x)

    def _convolve(self, x: jax.Array, size: int, train: bool, stride: int = 1) -> jax.Array:
        bias = self.norm == "none"  # a norm that follows has one of its own
        conv = layers.Conv(self.width, size, stride, bias, dtype=self.dtype)
        return self._normalise(conv(x), train)

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """x (N, P, C) -> (N, ceil(P / stride), width)."""
        branch = x
        for i in range(self.depth - 1):
            branch = nn.relu(self._convolve(branch, self.size, train, 1 if i else self.stride))
        branch = self._convolve(branch, self.size, train)
        if self.norm == "none":
            branch = branch * self.param("skip", nn.initializers.zeros_init(), ()).astype(self.dtype)
        shortcut = self._convolve(x, 1, train, self.stride) if self.project else x.astype(self.dtype)
        return nn.relu(shortcut + branch)


class ResNet1D(nn.Module):
    """Residual blocks with max-pooling between any two; the channels' meaning is the caller's affair.

    widths: channels of each block. size: of the kernels. fold: pixels laid side by side as channels before the first
    block (computers like few wide rows better than many narrow ones). norm: "batch" or "none". dtype: of the
    arithmetic; parameters and logits are float32. locate: add the pixel head. kinds: let it also tell two kinds of line
    apart. correct: add a term of the whole object to its logit, which then is not the sum of its pixels' alone. guided:
    the pixel head starts as the matched filter.
    """

    widths: tuple[int, ...] = (8, 8, 16, 16, 32, 32, 48, 48)
    size: int = 3
    fold: int = 1
    norm: str = "batch"
    dropout: float = 0.1
    locate: bool = False
    kinds: bool = False
    correct: bool = True
    guided: bool = True
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, snr: jax.Array, mask: jax.Array, train: bool = False) -> dict[str, jax.Array]:
        """x (N, P, C) channels, or (N, ceil(P / fold), C'), `fold` pixels side by side; snr (N, P) matched-filter S/N,
        mask (N, P) true where the pixel is good.

        Returns logit (N,); if `locate`, pixel_logit (N, P); if `kinds`, kind_logit (N,).
        """
        x = layers.fold(x, self.fold) if x.shape[1] == snr.shape[1] else x
        outputs = self._blocks(x, train)
        if not self.locate:
            return {"logit": heads.DenseHead(self.dropout)(outputs[-1], train)}
        pixels = heads.PixelHead(self.fold, self.kinds, self.guided)(outputs, snr, mask)
        logit = heads.marginalise(pixels["pixel_logit"], mask)
        if self.correct:
            logit = logit + heads.PooledHead(self.dropout)(outputs[-1], train)
        return {"logit": logit, **pixels}

    def _blocks(self, x: jax.Array, train: bool) -> list[jax.Array]:
        """Output of every block before pooling: (N, Q, w0), (N, ceil(Q / 2), w1), ... with Q = ceil(P / fold)."""
        projected, outputs = projection_blocks(self.widths), []
        for i, width in enumerate(self.widths):
            block = Block(width, i in projected, self.size, self.norm, self.dtype)
            outputs.append(block(x, train))
            x = layers.max_pool(outputs[-1]) if i + 1 < len(self.widths) else outputs[-1]
        return outputs
