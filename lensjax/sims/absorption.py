"""Absorption by gas in front of quasars: curve of growth, lines through an instrument, all lines of a system."""

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from lensjax.physics import grid, lines

REACH = 26  # pixels each way of a line that are computed
NODES = 25  # of a line's optical depth
TAIL = 0.004  # share of the depth, or optical depth where that is above 1, at which a line ends
DEPTHS = np.geomspace(1e-3, 1e4, 128)  # at which the curve of growth is tabulated
_X = np.linspace(-6, 6, 601)
_GROWTH = np.trapezoid(1 - np.exp(-DEPTHS[:, None] * np.exp(-0.5 * _X**2)), _X, axis=1)
MOST_GROWTH = float(_GROWTH[-1]) * 0.98  # equivalent width over width of the deepest line
SECOND = lines.MGII_STRENGTH[1] * lines.MGII[1] / (lines.MGII_STRENGTH[0] * lines.MGII[0])  # depth at 2803 over 2796

# Lines of a system besides the doublet: species -> rest wavelengths, depth relative to the species' strongest.
_IRON = np.array(lines.FEII_STRENGTH) * np.array(lines.FEII)
_CARBON = np.array(lines.CIV_STRENGTH) * np.array(lines.CIV)
_ALUMINIUM = np.array(lines.ALIII_STRENGTH) * np.array(lines.ALIII)
IRON = (lines.FEII, _IRON / _IRON.max())
HIGH = ((*lines.CIV, *lines.ALIII), np.concatenate([_CARBON / _CARBON.max(), 0.35 * _ALUMINIUM / _ALUMINIUM.max()]))
REST = np.array([*lines.FEII, lines.MGI, *lines.ALIII], np.float32)
SHARE = np.concatenate([IRON[1], [1.0], _ALUMINIUM / _ALUMINIUM.max()]).astype(np.float32)
KIND = np.array([0] * 5 + [1] + [2] * 2)  # of REST: Fe II, Mg I, Al III
STRENGTH = ((-0.5, 0.3), (-1.15, 0.3), (-0.9, 0.4))  # log10 of its depth over that of Mg II 2796, scatter
ASSOCIATED = (-3000.0, 800.0)  # km/s: of C IV near the quasar; inflow is positive
TROUGHS, FASTEST = 3, 25_000.0  # parts of a broad absorption trough, km/s
TROUGH_PIXELS = (512, 128)  # in front of the quasar and behind that are computed


class Rendering(NamedTuple):
    """What lines are seen through: variance (P,) of the line-spread function and of a pixel, pixels^2.

    index0: place of the first pixel on the grid of all wavelengths.
    """

    variance: jax.Array
    index0: int


def make_rendering(lsf: jax.Array, loglam: np.ndarray) -> Rendering:
    """lsf: (P,) standard deviation of the line-spread function, pixels, on loglam (P,)."""
    return Rendering(jnp.asarray(lsf) ** 2 + 1 / 12, grid.index0(loglam))


def growth(depth: jax.Array) -> jax.Array:
    """Equivalent width of a line over the standard deviation of its optical depth, which is `depth` at the centre."""
    logs = jnp.interp(jnp.log(depth), np.log(DEPTHS).astype(np.float32), np.log(_GROWTH).astype(np.float32))
    return jnp.where(depth > DEPTHS[0], jnp.exp(logs), math.sqrt(2 * math.pi) * depth)


def depth_of(ratio: jax.Array) -> jax.Array:
    """The inverse of `growth`."""
    thin = ratio / np.float32(math.sqrt(2 * math.pi))
    logs = jnp.interp(jnp.log(ratio), np.log(_GROWTH).astype(np.float32), np.log(DEPTHS).astype(np.float32))
    return jnp.where(ratio > _GROWTH[0], jnp.exp(logs), thin)


def line_loss(
    rendering: Rendering, place: jax.Array, width: jax.Array, depth: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Pixels (2 REACH + 1,) int around a line, and the share of the light (2 REACH + 1,) that it takes there.

    The light that is missing, 1 - exp(-tau), is spread by the line-spread function and the pixel: exact for a line of
    any width, narrower than a pixel included. place: fractional pixel. width: pixels. depth: at the centre.
    """
    reach = jnp.sqrt(2 * jnp.log(jnp.maximum(depth, 1.0) / TAIL))
    x = jnp.linspace(-1.0, 1.0, NODES) * reach
    missing = -jnp.expm1(-depth * jnp.exp(-0.5 * x**2)) * (2 * reach / (NODES - 1)) * width
    first = jnp.round(place).astype(jnp.int32) - REACH
    near = first + jnp.arange(2 * REACH + 1)
    variance = rendering.variance[jnp.clip(first + REACH, 0, rendering.variance.shape[0] - 1)]
    apart = (near - place)[:, None] - x[None, :] * width
    shape = jnp.exp(-0.5 * apart**2 / variance) * jax.lax.rsqrt(2 * np.float32(math.pi) * variance)
    return near, jnp.minimum(shape @ missing, 0.999)


def add_lines(
    total: jax.Array, rendering: Rendering, places: jax.Array, widths: jax.Array, depths: jax.Array
) -> jax.Array:
    """total (P,), a sum of log transmissions, with more lines; places, widths (pixels), depths (L,): see `line_loss`.

    Depth 0 adds nothing.
    """
    near, lost = jax.vmap(lambda *line: line_loss(rendering, *line))(places, widths, depths)
    inside = jnp.where(near < 0, total.shape[0], near)  # a negative index would wrap; one past the end is dropped
    return total.at[inside].add(jnp.log1p(-lost), mode="drop")


def render_systems(
    key: jax.Array, rendering: Rendering, slots: dict[str, jax.Array], sim: Any, z: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Transmissions of the doublet of each slot (S, P), there or not, and (P,) of every other line of those there.

    slots: see `mgii.draw_absorbers`. Also C IV and Al III of gas near the quasar, by config.sim.civ_fraction.
    """
    number, pixels = slots["pixel"].shape[0], rendering.variance.shape[0]
    u = jax.random.uniform(key, (number + 1, 6), minval=1e-6)
    normal = jnp.clip(jax.scipy.special.ndtri(u), -2.5, 2.5)
    nothing = jnp.zeros(pixels)
    wide = slots["width"] / np.float32(lines.MGII[0] * math.log(10) * grid.STEP)  # pixels
    doublet = np.log10(np.array(lines.MGII) / lines.MGII[0]).astype(np.float32) / np.float32(grid.STEP)

    def one(place, width, depth):
        depths = depth * jnp.array([1.0, SECOND])
        return add_lines(nothing, rendering, place + doublet, jnp.full(2, width), depths)

    doublets = jnp.exp(jax.vmap(one)(slots["pixel"], wide, slots["depth"]))
    apart = np.log10(REST / lines.MGII[0]) / np.float32(grid.STEP)
    law = jnp.array(STRENGTH)
    ratio = 10 ** (law[None, :, 0] + law[None, :, 1] * normal[:number, :3])  # (S, 3)
    has = slots["there"] & (u[:number, 3] < sim.feii_fraction)
    depths = jnp.where(has[:, None], slots["depth"][:, None] * ratio[:, KIND] * SHARE[None], 0.0)
    places = slots["pixel"][:, None] + apart[None]
    widths = jnp.broadcast_to(wide[:, None], depths.shape)

    near, speed = u[number], ASSOCIATED[0] + (ASSOCIATED[1] - ASSOCIATED[0]) * u[number, 0]
    start = (np.log10(np.array(HIGH[0])) / grid.STEP - rendering.index0).astype(np.float32)
    centre = start + jnp.log10(1 + z) / grid.STEP + speed / np.float32(grid.PIXEL_KMS)
    deep = jnp.where(near[1] < sim.civ_fraction, 0.3 * 20 ** near[2], 0.0) * jnp.asarray(HIGH[1], jnp.float32)
    all_places = jnp.concatenate([places.ravel(), centre])
    all_widths = jnp.concatenate([widths.ravel(), jnp.full(deep.shape, 0.3 * 8 ** near[3])])
    all_depths = jnp.concatenate([depths.ravel(), deep])
    return doublets, jnp.exp(add_lines(nothing, rendering, all_places, all_widths, all_depths))


def draw_troughs(key: jax.Array, rendering: Rendering, z: jax.Array, share: float) -> jax.Array:
    """Transmission (P,) of broad absorption: C IV, and in one of six Al III and Mg II as well.

    Some parts, 300-2500 km/s wide, up to 25,000 km/s in front of the quasar (Weymann et al. 1991, ApJ 373, 23). One
    shape in velocity, put to the nearest pixel of each line.
    """
    pixels = rendering.variance.shape[0]
    u = jax.random.uniform(key, (3 * TROUGHS + 2,))
    speed = (1 - u[:TROUGHS] ** 0.7) * FASTEST
    width = 300.0 * 8.0 ** u[TROUGHS : 2 * TROUGHS]
    depth = 3.0 * u[2 * TROUGHS : 3 * TROUGHS] ** 2
    there = jnp.where(u[-2] < share, jnp.array([1.0, 0.0, 0.0]) + jnp.array([0.0, 1.0, 1.0]) * (u[-1] < 1 / 6), 0.0)
    x = np.arange(-TROUGH_PIXELS[0], TROUGH_PIXELS[1])
    velocity = (x * grid.PIXEL_KMS).astype(np.float32)  # negative in front of the quasar
    shape = depth @ jnp.exp(-0.5 * ((velocity[None] + speed[:, None]) / width[:, None]) ** 2)
    rest = np.array([lines.CIV[0], lines.ALIII[0], lines.MGII[0]])
    start = (np.log10(rest) / grid.STEP - rendering.index0).astype(np.float32)
    places = jnp.round(start + jnp.log10(1 + z) / grid.STEP).astype(jnp.int32)[:, None] + x[None]
    inside = jnp.where(places < 0, pixels, places)
    return jnp.exp(-jnp.zeros(pixels).at[inside].add(there[:, None] * shape[None], mode="drop"))
