"""From the features of a 1-D network to one logit per object, and to one per pixel that says where the line is."""

import math

import flax.linen as nn
import jax
import jax.numpy as jnp

from lensjax.models import layers
from lensjax.models.initial import he_scale

MAX_LOG_GAIN = 5.0  # errors that are wrong by 12 times
EXCLUDED = -1e9  # logit of a masked pixel: finite, so that its gradient is zero and not NaN


def marginalise(pixel_logit: jax.Array, mask: jax.Array) -> jax.Array:
    """Log likelihood ratio of "one line somewhere" to "no line", from those of "a line at pixel p".

    With a flat prior over the P pixels, L(line) / L(none) = (1 / P) sum_p L_p / L(none): logsumexp - log P.
    pixel_logit (N, P), mask (N, P): only good pixels are summed; P stays the length of the window, as a line is as
    likely to fall on a bad pixel. An object without a good pixel gets -log P.
    """
    total = jax.nn.logsumexp(pixel_logit, axis=-1, where=mask | ~jnp.any(mask, axis=-1, keepdims=True))
    total = jnp.where(jnp.any(mask, axis=-1), total, 0.0)
    return total - math.log(pixel_logit.shape[-1])


def half_square(snr: jax.Array, linear: float) -> jax.Array:
    """max(snr, 0)^2 / 2, continued by its tangent beyond `linear`: one wild pixel must not have an unbounded vote."""
    inner = jnp.clip(snr, 0.0, linear)
    return inner * (jnp.maximum(snr, 0.0) - 0.5 * inner)


def upsample(x: jax.Array, pixels: int) -> jax.Array:
    """Repeat every pixel of x (N, Q, ...) twice and crop to `pixels`: the inverse grid of `layers.max_pool`."""
    return jnp.repeat(x, 2, axis=1)[:, :pixels]


class DenseHead(nn.Module):
    """Every feature of every pixel, dropout, dense layers of `widths` with dropout between them, one dense unit.

    (N, P, C) -> (N,). Without `widths` it is the head of Li et al. (2018). With them the last unit starts at zero: else
    the dropout of thousands of features is all that the first gradients tell of.
    """

    dropout: float = 0.0
    widths: tuple[int, ...] = ()

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        x = x.reshape(x.shape[0], -1).astype(jnp.float32)
        for width in self.widths:
            x = nn.relu(nn.Dense(width, kernel_init=he_scale)(nn.Dropout(self.dropout, deterministic=not train)(x)))
        rate = 0.0 if self.widths else self.dropout
        start = nn.initializers.zeros_init() if self.widths else he_scale
        return nn.Dense(1, kernel_init=start)(nn.Dropout(rate, deterministic=not train)(x))[:, 0]


class PooledHead(nn.Module):
    """Largest and mean feature over the pixels, dropout, one dense unit that starts at zero. (N, P, C) -> (N,)."""

    dropout: float = 0.0

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        x = x.astype(jnp.float32)
        pooled = jnp.concatenate([x.max(axis=1), x.mean(axis=1)], axis=-1)
        pooled = nn.Dropout(self.dropout, deterministic=not train)(pooled)
        return nn.Dense(1, kernel_init=nn.initializers.zeros_init())(pooled)[:, 0]


class PixelHead(nn.Module):
    """Log likelihood ratio of "a line at pixel p" to "no line": the matched filter's, corrected by the network.

    For a line of known shape in Gaussian noise whose flux has a flat prior of width D (in units of its error), the
    ratio is sqrt(2 pi) / D exp(snr^2 / 2) for any snr > 1. So pixel_logit starts as snr^2 / 2 + bias with
    bias = log(sqrt(2 pi) / D): the classical filter. The network then sets, per pixel, a gain (errors that are r times
    too small call for 1 / r^2, a cosmic ray for 0) and an offset; both are linear in the features of every block, the
    coarse ones repeated onto the fine grid (a feature pyramid, Lin et al. 2017), and start at 1 and 0.

    Without a guide there is no S/N: a third linear function of the features stands for half its square, and gain and
    offset also have a learned part for every pixel of the window, where noise and what is known of lines differ.
    """

    fold: int = 1  # pixels that one position of the first block stands for
    kinds: bool = False  # also a logit of the line's kind
    guided: bool = True  # by the matched filter's S/N
    prior_width: float = 17.0  # S/N 3 to 20
    linear_snr: float = 5.0

    def _project(self, x: jax.Array, name: str) -> jax.Array:
        """What the head needs of the `fold` pixels at each position: (N, Q, C) -> (N, Q, fold times `_parts`).

        Logarithms of the gain, then offsets, then what stands for the S/N where there is none, then logits of the kind.
        """
        width, start = self._parts * self.fold, nn.initializers.zeros_init()
        return nn.Dense(width, kernel_init=start, dtype=x.dtype, name=name)(x)

    @property
    def _parts(self) -> int:
        return 2 + (not self.guided) + self.kinds

    @nn.compact
    def __call__(self, outputs: list[jax.Array], snr: jax.Array, mask: jax.Array) -> dict[str, jax.Array]:
        """outputs: (N, P / fold / 2^i, C_i) of block i; snr, mask (N, P).

        Returns pixel_logit (N, P), `EXCLUDED` where not mask, and with `kinds` kind_logit (N,), that of every pixel
        weighted with the probability that the line is there.
        """
        last = len(outputs) - 1
        total = self._project(outputs[last], f"pixel_{last}")
        for i in reversed(range(last)):
            here = self._project(outputs[i], f"pixel_{i}")
            total = here + upsample(total, here.shape[1])
        # Products with columns of the identity, exact: XLA would otherwise sum the levels anew for every pixel, inside
        # the loop below, and not vectorise that loop, a tenth of the network's time.
        total, one = total.astype(jnp.float32), jnp.eye(total.shape[-1])
        parts = [jnp.matmul(total, part, precision="highest") for part in jnp.split(one, self._parts, axis=1)]
        log_gain, offset, *others = [layers.unfold(x, self.fold, snr.shape[1])[..., 0] for x in parts]
        start = math.log(math.sqrt(2 * math.pi) / self.prior_width)
        bias = self.param("bias", nn.initializers.constant(start), ())
        if self.guided:
            evidence = half_square(snr, self.linear_snr)
        else:
            here = self.param("here", nn.initializers.zeros_init(), (2, snr.shape[1]))
            log_gain, offset, evidence = log_gain + here[:1], offset + here[1:], others[0]
        logit = jnp.exp(jnp.clip(log_gain, -MAX_LOG_GAIN, MAX_LOG_GAIN)) * evidence + offset + bias
        out = {"pixel_logit": jnp.where(mask, logit, EXCLUDED)}
        if self.kinds:
            place = jax.lax.stop_gradient(jax.nn.softmax(out["pixel_logit"]))
            out["kind_logit"] = jnp.sum(place * others[-1], axis=1)
        return out
