"""What training minimises: the focal loss of the object, the cross-entropy of the line's pixel."""

import jax
import jax.numpy as jnp
import optax


def focal(logit: jax.Array, label: jax.Array, gamma: float = 2.0) -> jax.Array:
    """Mean focal loss (Lin et al. 2017, eq. 4-5): -(1 - p_t)^gamma log p_t, p_t the probability given to the truth.

    Li et al. (2018) eq. 1, whose printed exponent y is a misprint of gamma. logit, label (N,); gamma = 0 is the
    cross-entropy. Without the weights alpha of the classes.
    """
    return jnp.mean(optax.losses.sigmoid_focal_loss(logit, label, alpha=None, gamma=gamma))


def pixel_target(position: jax.Array, mask: jax.Array, sigma: float = 0.7) -> jax.Array:
    """Where a line at fractional pixel `position` (N,) is: a Gaussian of `sigma` pixels over the good pixels.

    mask (N, P). Returns weights (N, P) that sum to one, or to zero where less than half of the Gaussian is on good
    pixels of the window: such a line has nowhere to be found.
    """
    pixels = jnp.arange(mask.shape[-1], dtype=jnp.float32)
    shape = jnp.exp(-0.5 * ((pixels[None] - position[:, None]) / sigma) ** 2) / (sigma * jnp.sqrt(2 * jnp.pi))
    seen = jnp.where(mask, shape, 0.0)
    total = seen.sum(axis=-1, keepdims=True)
    return jnp.where(total > 0.5, seen / jnp.where(total > 0.5, total, 1.0), 0.0)


def over_positives(values: jax.Array, label: jax.Array, share: jax.Array | None) -> jax.Array:
    """Mean of values (N,) over the positives of label (N,), 0 or 1; zero without any.

    share: () positives a row, in the batch of which these rows are a part, so that the mean over equal parts is that of
    the batch; None: in these rows.
    """
    share = jnp.mean(label) if share is None else share
    return jnp.mean(values * label) / jnp.where(share > 0, share, 1.0)


def localisation(
    pixel_logit: jax.Array, target: jax.Array, label: jax.Array, share: jax.Array | None = None
) -> jax.Array:
    """Softmax cross-entropy (nat) between the pixels' logits and `target` (both (N, P)), a mean over the positives.

    label (N,); share: see `over_positives`.
    """
    log_prob = jax.nn.log_softmax(pixel_logit, axis=-1)
    entropy = -jnp.sum(jnp.where(target > 0, target * log_prob, 0.0), axis=-1)
    return over_positives(entropy, label, share)


def kind(kind_logit: jax.Array, first: jax.Array, label: jax.Array, share: jax.Array | None = None) -> jax.Array:
    """Mean cross-entropy of the kind of line, over the objects with a line; 0 without any.

    kind_logit (N,); first (N,) bool, the line is of the first kind; label (N,) 0 or 1; share: see `over_positives`.
    """
    entropy = optax.losses.sigmoid_binary_cross_entropy(kind_logit, first.astype(jnp.float32))
    return over_positives(entropy, label, share)
