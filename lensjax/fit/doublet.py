"""The model of an absorption doublet: two lines of one gas on a quadratic continuum, through the spectrograph.

Gas whose optical depth is a Gaussian of standard deviation b takes the light 1 - exp(-tau) away: W is the equivalent
width of that, and its shape goes from a Gaussian to a box as q = W / b grows (the curve of growth). What is fitted is
a box convolved with a Gaussian, of the variance and the fourth cumulant that the line has after the line-spread
function: both add under convolution, the integral is W whatever the shape, and no line is narrower than a black box.

The abscissa is in units of which SEPARATION lie between the lines: pixels for Mg II; a stretched one fits other
doublets with the same compiled program. Parameters: (W of the blue line, W of the red line, place of the doublet's
middle, log width, and three coefficients of the continuum), all in these units; `width` is the standard deviation of an
optically thin line as observed.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from lensjax.fit import staged
from lensjax.fit.levenberg import Data, Model, Scalars
from lensjax.fit.skewnormal import PIXEL_VARIANCE
from lensjax.fit.templates import solve_small
from lensjax.physics import grid, lines

SEPARATION = float(np.log10(lines.MGII[1] / lines.MGII[0]) / grid.STEP)  # 11.135 pixels
PLACES = (-0.5 * SEPARATION, 0.5 * SEPARATION)
HALF_WIDTH = 40  # pixels fitted each way
MAX_OFFSET = 8.0  # pixels between the first guess and the middle of the doublet
WIDTHS = (0.8, 8.0)  # of an optically thin line as observed, pixels
LSF_SIGMA = 1.0  # pixels; in the shapes alone, where the actual one matters little
BANK_WIDTHS = (1.15, 1.7, 2.5, 3.8)
BANK_RATIOS = (0.55, 0.95)  # red over blue
BANK_OFFSETS = tuple(np.arange(-6.0, 7.0))
CORE = 14.0  # pixels each way of the middle that the first continuum leaves out
CLIP = 2.5  # standard deviations below the first continuum that its second round leaves out
# Variance of 1 - exp(-tau) in units of b^2, and its excess kurtosis over -1.2, as ratios of polynomials in q: fitted to
# the exact ones at q < 20, good to 0.7 % and 0.016.
VARIANCE = (-0.26638, 0.114914, -0.0269585, 0.00610796, -0.309862)
KURTOSIS = (8.84715, -3.08331, 72.1114, -2.42641, -2.56901)


def shape(ew, square):
    """Variance of a line as observed, and half the width of the box that it is made of (numpy or JAX).

    Args:
        ew: W, pixels. square: width squared, pixels^2.
    """
    own = square - LSF_SIGMA**2 - PIXEL_VARIANCE
    own = 0.5 * (own + (own * own + 0.04) ** 0.5)  # b^2, positive and smooth
    q = 0.5 * (ew + (ew * ew + 0.01) ** 0.5) / own**0.5
    a, b, c, d, e = VARIANCE
    growth = (1 + q * (a + q * (b + q * (c + q * d)))) / (1 + q * (e + 12 * d * q))
    a, b, c, d, e = KURTOSIS
    boxiness = q * (a + q * (b + q)) / (c + q * (d + q * (e + q)))  # kurtosis over that of a box
    # Fourth cumulants: -2/15 h^4 of a box, -6/5 boxiness (growth b^2)^2 of the line.
    return square + (growth - 1) * own, (3 * growth * own) ** 0.5 * boxiness**0.25


def _line(ew: jax.Array, log_width: jax.Array) -> tuple[tuple, tuple, tuple]:
    """(standard deviation of the Gaussian, half width of the box), and their derivatives by the two arguments."""

    def scalars(ew, log_width):
        variance, box = shape(ew, jnp.exp(2 * log_width))
        return jnp.sqrt(variance - box * box / 3), box

    one, none = jnp.ones_like(ew), jnp.zeros_like(ew)
    values, by_ew = jax.jvp(scalars, (ew, log_width), (one, none))
    return values, by_ew, jax.jvp(scalars, (ew, log_width), (none, one))[1]


def _profile(x: jax.Array, sigma: jax.Array, box: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
    """Box convolved with Gaussian, of unit integral, at x from its middle; its derivatives by x, sigma and box."""
    inverse, per_box = 1 / sigma, 0.5 / box
    right, left = (x + box) * inverse, (x - box) * inverse
    norm = np.sqrt(0.5 / np.pi) * inverse
    ends = jnp.exp(-0.5 * right * right) * norm, jnp.exp(-0.5 * left * left) * norm
    profile = 0.5 * per_box * (jax.lax.erf(right * np.sqrt(0.5)) - jax.lax.erf(left * np.sqrt(0.5)))
    by_sigma = (left * ends[1] - right * ends[0]) * per_box
    return profile, (ends[0] - ends[1]) * per_box, by_sigma, (ends[0] + ends[1] - 2 * profile) * per_box


@functools.cache
def make_model(half: int) -> Model:
    """Model of `levenberg.minimise` in a window of `half` pixels each way, which is the unit of the quadratic."""

    def model(params: Scalars):
        ews, mean, log_width, level = params[:2], params[2], params[3], params[4:]
        both = [_line(ew, log_width) for ew in ews]

        def at(x: jax.Array):
            u = x * (1 / half)
            legendre = (jnp.ones_like(x), u, u * u - 1 / 3)
            continuum = sum((c * p for c, p in zip(level[1:], legendre[1:], strict=True)), level[0])
            parts = []
            for ew, place, (values, of_ew, of_width) in zip(ews, PLACES, both, strict=True):
                profile, by_x, by_sigma, by_box = _profile(x - mean - place, *values)
                by_ew = profile + ew * (by_sigma * of_ew[0] + by_box * of_ew[1])
                parts.append((ew * profile, by_ew, -ew * by_x, ew * (by_sigma * of_width[0] + by_box * of_width[1])))
            # Where the lines overlap, the light that one has left is what the other takes from.
            left = tuple(1 - lost for lost, *_ in parts)
            blue, red = (
                tuple(-continuum * other * slope for slope in slopes)
                for (_, *slopes), other in zip(parts, reversed(left), strict=True)
            )
            through = left[0] * left[1]
            slopes = (blue[0], red[0], blue[1] + red[1], blue[2] + red[2], *(p * through for p in legendre))
            return continuum * through, slopes

        return at

    return model


def bank(x: jax.Array) -> tuple[np.ndarray, jax.Array]:
    """Start templates: (mean, log width, ratio) (K, 3), and the light they take for W = 1 of the blue line (K, P)."""
    mesh = np.meshgrid(BANK_OFFSETS, np.log(BANK_WIDTHS), BANK_RATIOS, indexing="ij")
    rows = np.stack([axis.ravel() for axis in mesh], axis=1).astype(np.float32)
    mean, log_width, ratio = rows.T[:, :, None]
    parts = [jnp.exp(-0.5 * ((x[None] - mean - place) * np.exp(-log_width)) ** 2) for place in PLACES]
    return rows, (parts[0] + ratio * parts[1]) * np.exp(-log_width) / np.sqrt(2 * np.pi).astype(np.float32)


def first_continuum(data: Data) -> Scalars:
    """The three coefficients, from the pixels beside the doublet; what lies well below in a first round is left out."""
    half = data.x.shape[0] // 2
    u = data.x / half
    columns = jnp.stack([jnp.ones_like(u), u, u * u - 1 / 3])
    weight = jnp.where(jnp.abs(data.x) > min(CORE, 0.5 * half), data.ivar, 1e-3 * data.ivar)

    def fit(weight: jax.Array) -> jax.Array:
        # Where all is masked, coefficients of zero.
        rows = [
            [jnp.sum(weight * columns[i] * columns[j]) + (1e-20 if i == j else 0) for j in range(i + 1)]
            for i in range(3)
        ]
        return jnp.stack(solve_small(rows, [jnp.sum(weight * c * data.y) for c in columns]))

    coefficients = fit(weight)
    low = (data.y - jnp.sum(coefficients[:, None] * columns, 0)) * jnp.sqrt(data.ivar) < -CLIP
    return tuple(fit(jnp.where(low, 1e-2 * weight, weight)))


def start(data: Data) -> Scalars:
    """The best template of the bank below the first continuum."""
    half = data.x.shape[0] // 2
    shapes, templates = bank(data.x)
    level = first_continuum(data)
    u = data.x / half
    continuum = level[0] + level[1] * u + level[2] * (u * u - 1 / 3)
    with jax.default_matmul_precision("highest"):
        weight = continuum * data.ivar
        square, cross = templates**2 @ (continuum * weight), templates @ (weight * (continuum - data.y))
    depth = jnp.where(square > 0, jnp.maximum(cross, 0.0) / jnp.where(square > 0, square, 1.0), 0.0)
    best = jnp.argmax(depth * cross)
    mean, log_width, ratio = (jnp.asarray(column)[best] for column in shapes.T)
    return depth[best], ratio * depth[best], mean, log_width, *level


def abscissa(half: int, stretch: float = 1.0) -> np.ndarray:
    """Pixels -half ... half in units of which SEPARATION lie between the lines; stretch: those units to a pixel."""
    return np.arange(-half, half + 1) * stretch


@functools.cache
def problem(half: int = HALF_WIDTH, stretch: float = 1.0) -> staged.Problem:
    """The doublet as `staged.solve` takes it; y in any unit, of order one."""
    low, high = (float(np.log(width * stretch)) for width in WIDTHS)
    lower, upper = (-20.0, -20.0, -MAX_OFFSET * stretch, low), (60.0, 60.0, MAX_OFFSET * stretch, high)
    bounds = ((*lower, -1e6, -1e6, -1e6), (*upper, 1e6, 1e6, 1e6))
    return staged.Problem(make_model(half), start, *bounds, tuple(map(float, abscissa(half, stretch))))


@functools.cache
def _values(half: int):
    model = make_model(half)

    def one(params, x):
        flat = (*params[:4], jnp.ones_like(params[0]), jnp.zeros_like(params[0]), jnp.zeros_like(params[0]))
        without, full = jax.vmap(lambda p: (model(flat)(p)[0], model(tuple(params))(p)[0]))(x)
        return full, full / without

    return jax.jit(jax.vmap(one, in_axes=(-1, None), out_axes=-1))


def values(params: np.ndarray, half: int, stretch: float = 1.0) -> list[np.ndarray]:
    """Model and continuum (P, N) of params (K, N)."""
    return staged.in_chunks(_values(half), (params,), shared=(abscissa(half, stretch),))


@functools.cache
def fwhm_table() -> tuple[np.ndarray, np.ndarray]:
    """FWHM over standard deviation of 1 - exp(-tau), by W over that standard deviation: exact."""
    x, tau = np.linspace(-12, 12, 4801), np.geomspace(1e-3, 1e9, 121)[:, None]
    lost = -np.expm1(-tau * np.exp(-0.5 * x**2))
    ew = lost.sum(1) * (x[1] - x[0])
    sigma = np.sqrt((lost * x**2).sum(1) / lost.sum(1))
    half_depth = -np.log1p(-0.5 * lost.max(1))  # optical depth there
    return ew / sigma, 2 * np.sqrt(2 * np.log(tau[:, 0] / half_depth)) / sigma
