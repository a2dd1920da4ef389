"""Other lines of a Mg II absorber, and of the absorbers whose other lines it may be: W at given places, closed form.

A pair that looks like Mg II may be Fe II of a nearer system of greater wavelength, or C IV at the quasar. So Fe II and
Mg I are measured where z_abs puts them, and Mg II where it would be if this were Fe II: that must then be as strong.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from lensjax.fit import levenberg, mgii, staged, templates
from lensjax.fit.levenberg import Normal
from lensjax.fit.mgii import Columns
from lensjax.physics import grid, lines

HALF_WIDTH = 30  # pixels each way of a group of lines
IRON = ("feii_2344", "feii_2374", "feii_2382", "feii_2586", "feii_2600")
# Lines close enough to share a continuum: names, wavelengths.
GROUPS = (
    (IRON[:1], lines.FEII[:1]),
    (IRON[1:3], lines.FEII[1:3]),
    (IRON[3:], lines.FEII[3:]),
    (("mgi_2853",), (lines.MGI,)),
)
# W to be expected, relative: between those of thin and of saturated gas.
EXPECTED = dict(zip(IRON, np.sqrt(np.array(lines.FEII_STRENGTH) / max(lines.FEII_STRENGTH)), strict=True))
MGII_EXPECTED = (1.0, 0.8)
SHIFTS = (-3.0, -1.5, 0.0, 1.5, 3.0)  # pixels that a false redshift may be off
SAME = 8.0  # pixels: a line as close as that to one of the doublet's is that line
LEAST_SEEN = 0.5  # of a line's profile on good pixels, to be measured
NOTHING = -9.0  # redshift where no rival has data


def forced(y: jax.Array, ivar: jax.Array, offsets: jax.Array, variance: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Equivalent widths (L,), pixels, and their errors, of Gaussian lines of given place and width on a quadratic.

    Errors are widened as in `mgii.measure`. Infinite, and W zero, where the line is not seen or the continuum not
    positive.

    Args:
        y, ivar: (P,) pixels around a place, P odd; ivar 0 = bad pixel. y of order one.
        offsets: (L,) pixels from the middle one to the lines. variance: () of the lines, pixels^2.
    """
    half = y.shape[0] // 2
    x = jnp.arange(-half, half + 1, dtype=y.dtype)
    bells = jnp.exp(-0.5 * (x[None] - offsets[:, None]) ** 2 / variance) * jax.lax.rsqrt(2 * np.pi * variance)
    design = jnp.concatenate([jnp.asarray(templates.polynomials(2 * half + 1), y.dtype), -bells])
    num = design.shape[0]
    weighted = [design[i] * ivar for i in range(num)]
    rows = tuple(tuple(jnp.sum(weighted[i] * design[j]) for j in range(i + 1)) for i in range(num))
    gradient = tuple(jnp.sum(w * y) for w in weighted)
    # XLA would otherwise compute the sums anew for every scalar of the elimination, and compile for minutes.
    rows, gradient = jax.lax.optimization_barrier((rows, gradient))
    spread = levenberg.covariance(Normal(jnp.sum(ivar), gradient, rows))
    spread = jax.lax.optimization_barrier(spread)
    seen = jnp.sum(bells * (ivar > 0)[None], axis=1) > LEAST_SEEN
    finite = [[jnp.where(jnp.isfinite(c), c, 0.0) for c in row] for row in spread]
    best = [sum((c * g for c, g in zip(row, gradient, strict=True)), jnp.zeros_like(variance)) for row in finite]
    residual = y - sum((b * d for b, d in zip(best, design, strict=True)), jnp.zeros_like(y))
    freedom = jnp.maximum(jnp.sum(ivar > 0) - num, 1)
    excess = jnp.sum(ivar * residual**2) / freedom - 2 * jnp.sqrt(2 / freedom)
    u = offsets / half
    level = best[0] + best[1] * u + best[2] * (1.5 * u * u - 0.5)
    good = seen & (level > 0)
    safe = jnp.where(good, level, 1.0)
    error = jnp.stack([jnp.sqrt(spread[i][i] * jnp.maximum(excess, 1.0)) for i in range(3, num)]) / safe
    good = good & jnp.isfinite(error)
    return jnp.where(good, jnp.stack(best[3:]) / safe, 0.0), jnp.where(good, error, jnp.inf)


@functools.cache
def _forced(shifts: tuple[float, ...]):
    """Compiled, batch last: (y (P, N), ivar, offsets (L, N), variance (N,)) -> W, error (S, L, N), of each shift."""

    def one(y, ivar, offsets, variance):
        return jax.vmap(lambda shift: forced(y, ivar, offsets + shift, variance))(jnp.array(shifts, y.dtype))

    return staged.batched(one)


def measure_group(flux, ivar, z, rest, variance, loglam, shifts=(0.0,)) -> tuple[np.ndarray, np.ndarray]:
    """W and error (S, L, N), Angstrom at rest, of lines `rest` (L,) at redshift z (N,) displaced by `shifts` (S,).

    Args:
        flux, ivar: (N, P). variance: (N,) of the lines as observed, pixels^2. loglam: (P,). shifts: pixels.
    """
    place = grid.pixel(np.sqrt(rest[0] * rest[-1]) * (1 + z), loglam)
    y, weight, _ = mgii.normalise(flux, ivar, place, None, HALF_WIDTH)
    offsets = np.stack([grid.pixel(wave * (1 + z), loglam) for wave in rest]) - np.rint(place)
    ew, error = staged.in_chunks(_forced(shifts), (y, weight, offsets, np.asarray(variance)))
    angstrom = np.array(rest)[:, None] * np.log(10) * grid.STEP
    return ew * angstrom, error * angstrom


def joint_snr(ews: np.ndarray, errors: np.ndarray, expected: np.ndarray) -> np.ndarray:
    """S/N (...) of lines (..., L, N) together, if their W are as `expected` (L,) or (L, N); 0 where none is seen."""
    expected = np.asarray(expected).reshape(len(expected), -1)
    weight = expected / errors**2
    norm = np.sqrt((expected * weight).sum(-2))
    return np.where(norm > 0, (weight * ews).sum(-2) / np.where(norm > 0, norm, 1.0), 0.0)


def measure_metals(flux: np.ndarray, ivar: np.ndarray, columns: Columns, loglam: np.ndarray) -> Columns:
    """Fe II and Mg I of the same absorbers.

    Args:
        flux, ivar: (N, P) the whole spectra. columns: of `mgii.fit_doublets`: z_abs and sigma. loglam: (P,).

    Returns:
        (N,) arrays ew_X, ew_X_err (Angstrom at rest; the error infinite where there are no data) and snr_X for X in
        feii_2344, feii_2374, feii_2382, feii_2586, feii_2600, mgi_2853; feii_snr: of the five together; feii_lines:
        how many of them have data; mgi_snr.
    """
    z = np.nan_to_num(columns["z_abs"])
    table, out = _table(flux, ivar, z, columns["sigma"] ** 2, loglam), {}
    for name, (ew, error) in table.items():
        out |= {f"ew_{name}": ew, f"ew_{name}_err": error, f"snr_{name}": ew / error}
    out["feii_snr"] = _iron(table, np.ones((len(IRON), len(z)), bool))
    out["feii_lines"] = sum((np.isfinite(table[name][1]).astype(int) for name in IRON), np.zeros(len(z), int))
    return out | {"mgi_snr": out["snr_mgi_2853"]}


def _table(flux, ivar, z, variance, loglam, groups=GROUPS) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    table = {}
    for names, rest in groups:
        ew, error = measure_group(flux, ivar, z, rest, variance, loglam)
        table |= {name: (ew[0, i], error[0, i]) for i, name in enumerate(names)}
    return table


def _iron(table, counted: np.ndarray) -> np.ndarray:
    """Joint S/N of Fe II where `counted` (5, N)."""
    ews, errors = (np.stack([table[name][i] for name in IRON]) for i in range(2))
    return joint_snr(ews, np.where(counted, errors, np.inf), np.array([EXPECTED[name] for name in IRON]))


def measure_rivals(flux: np.ndarray, ivar: np.ndarray, columns: Columns, loglam: np.ndarray) -> Columns:
    """The Mg II of the absorber whose Fe II this would be: the strongest of ten, either line as either of five.

    Args: as of `measure_metals`.

    Returns:
        (N,) arrays: rival_z: its redshift (-9: no place has data). rival_snr: of its Mg II, both lines together, the
        weaker of the two counting no more than 1.5 times its own S/N. rival_ew, rival_ew_err: W of its 2796.
        rival_feii_snr: of its Fe II but for lines that fall on this doublet.
    """
    z, variance = np.nan_to_num(columns["z_abs"]), columns["sigma"] ** 2
    best: Columns = {"rival_snr": np.zeros(len(z)), "rival_z": np.full(len(z), NOTHING)}
    best |= {"rival_ew": np.zeros(len(z)), "rival_ew_err": np.full(len(z), np.inf)}
    for iron in lines.FEII:
        for line in lines.MGII:
            there = (1 + z) * line / iron - 1
            ew, error = measure_group(flux, ivar, there, lines.MGII, variance, loglam, SHIFTS)
            joint = np.minimum(joint_snr(ew, error, np.array(MGII_EXPECTED)), 1.5 * (ew / error).min(1))
            place = joint.argmax(0), np.arange(len(z))
            better = joint[place] > best["rival_snr"]
            shifted = (1 + there) * 10 ** (np.array(SHIFTS)[place[0]] * grid.STEP) - 1
            found = {"rival_snr": joint[place], "rival_z": shifted}
            found |= {"rival_ew": ew[:, 0][place], "rival_ew_err": error[:, 0][place]}
            best = {name: np.where(better, found[name], best[name]) for name in best}
    rest = np.array(lines.FEII)[:, None] * (1 + best["rival_z"])
    apart = [np.abs(np.log10(np.abs(rest) / (wave * (1 + z)))) / grid.STEP for wave in lines.MGII]
    table = _table(flux, ivar, best["rival_z"].clip(0), variance, loglam, GROUPS[:3])
    support = _iron(table, np.minimum(*apart) > SAME)
    return best | {"rival_feii_snr": np.where(best["rival_snr"] > 0, support, 0.0)}
