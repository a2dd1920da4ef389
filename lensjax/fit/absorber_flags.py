"""What else a Mg II doublet may be, as numbers, and what to think of it, as named flags with documented thresholds."""

import dataclasses
from typing import Any

import numpy as np

from lensjax.fit import doublet, metals, mgii
from lensjax.fit.lya import cut
from lensjax.fit.mgii import Columns
from lensjax.physics import grid, lines

CIV_STRETCH = doublet.SEPARATION / float(np.log10(lines.CIV[1] / lines.CIV[0]) / grid.STEP)  # 11.1 over 7.2 pixels
CIV_MIDDLE = float(np.sqrt(lines.CIV[0] * lines.CIV[1]))
CIV_SPEED = -10_000.0  # km/s behind the quasar, beyond which nothing can be C IV
WIDE = 150  # pixels each way in which a trough is looked for
SMOOTH = 5  # pixels of the running mean that it is looked for in
TROUGH_LEVEL = 0.9  # of the continuum: below it is absorption (Weymann et al. 1991, ApJ 373, 23)
BRIGHT = 60  # percentile of the running mean on either side that stands for the continuum
LEAST_SIDE = 40  # pixels with data that a side has at least, to tell a level


@dataclasses.dataclass(frozen=True)
class Settings:
    """Thresholds of `flags`."""

    good: float = 0.5  # least share of either line on good pixels
    doublet_snr: float = 4.0  # least of the doublet
    line_snr: tuple[float, float] = (3.0, 2.0)  # least of 2796 and of 2803
    least_ratio: float = 0.8  # of ew_2796 to ew_2803, and
    most_ratio: float = 2.4  # beyond these by
    ratio_sigma: float = 2.0  # ... so many errors
    behind: float = -1500.0  # km/s: absorbers farther behind the quasar than this are none
    associated: float = 5000.0  # km/s from the quasar
    trough: float = 2500.0  # km/s of uninterrupted absorption
    sky_wave: float = 7000.0  # Angstrom, redward of which
    sky_noise: float = 2.0  # errors at the lines so much above those around them mean sky lines
    sky_pixels: float = 3.0  # pixels from a listed line of the night sky
    sky_raised: float = 1.1  # ... that raises the errors by this: one that does not leaves no residual above them
    sky_snr: float = 10.0  # of a doublet that no residual of the sky makes
    support_snr: float = 5.0  # of Fe II or Mg I: with it, nothing else makes a false doublet
    rival_snr: float = 6.0  # of the Mg II whose Fe II this would be
    rival_strength: float = 0.9  # its W over that of the line here, at least
    civ_margin: float = 12.0  # chi2 by which Mg II must be better than C IV
    civ_speed: float = 3000.0  # km/s that C IV may be behind the quasar


def measure_all(
    flux: np.ndarray,
    ivar: np.ndarray,
    z: np.ndarray,
    loglam: np.ndarray,
    z_qso: np.ndarray,
    wdisp: np.ndarray | None = None,
) -> Columns:
    """Columns of `mgii.fit_doublets`, `metals.measure_metals`, `metals.measure_rivals` and `measure_context`.

    Args: as of the first, and z_qso (N,).
    """
    columns = mgii.fit_doublets(flux, ivar, z, loglam, wdisp)
    columns |= metals.measure_metals(flux, ivar, columns, loglam)
    columns |= metals.measure_rivals(flux, ivar, columns, loglam)
    return columns | measure_context(flux, ivar, columns, loglam, z_qso)


def measure_context(flux, ivar, columns: Columns, loglam, z_qso) -> Columns:
    """Where the absorber is, beside what, and C IV in its place.

    Args:
        flux, ivar: (N, P) as of `mgii.fit_doublets`. columns: of it. loglam: (P,). z_qso: (N,).

    Returns:
        (N,) arrays: dv: velocity towards us relative to the quasar, km/s. wave: of 2796, A. sky_distance: pixels from
        either line to the nearest listed line of the night sky. trough: length of uninterrupted absorption through the
        doublet, km/s. z_civ: redshift if it were C IV; civ_dv: as dv. civ_delta_chi2: chi2 of a doublet as far apart as
        C IV less that of Mg II, on the same pixels (negative: C IV fits better); NaN where its quasar is nearer.
    """
    z, z_qso = np.nan_to_num(columns["z_abs"]), np.asarray(z_qso, np.float64)
    listed = np.array([*lines.SKY_LINES, *lines.AIRGLOW, *lines.NIGHT_SKY])
    places = np.stack([grid.pixel(wave * (1 + z), loglam) for wave in lines.MGII])
    distance = np.abs(places[:, :, None] - grid.pixel(listed, loglam)).min((0, 2))
    z_civ = mgii.MIDDLE * (1 + z) / CIV_MIDDLE - 1
    out = {"dv": speed(z, z_qso), "wave": lines.MGII[0] * (1 + z), "sky_distance": distance}
    out |= {"trough": trough(flux, ivar, places)}
    out |= {"z_civ": z_civ, "civ_dv": speed(z_civ, z_qso), "civ_delta_chi2": np.full(len(z), np.nan)}
    rows = np.flatnonzero(out["civ_dv"] > CIV_SPEED)
    if len(rows):
        position = grid.pixel(mgii.MIDDLE * (1 + z[rows]), loglam)
        y, weight, _ = mgii.normalise(flux[rows], ivar[rows], position, None, doublet.HALF_WIDTH)
        out["civ_delta_chi2"][rows] = civ_delta_chi2(y, weight)
    return out


def civ_delta_chi2(y: np.ndarray, ivar: np.ndarray) -> np.ndarray:
    """chi2 (N,) of C IV less that of Mg II on the pixels (P, N) that neither calls outliers, batch last."""
    half, stretches = len(y) // 2, (1.0, CIV_STRETCH)
    fits = [mgii.solve(y, ivar, stretch) for stretch in stretches]
    used = np.minimum(fits[0][1], fits[1][1])
    models = [doublet.values(fit[0].params, half, stretch)[0] for fit, stretch in zip(fits, stretches, strict=True)]
    chi2 = [(used * (y - model) ** 2).sum(0) for model in models]
    return chi2[1] - chi2[0]


def speed(z: np.ndarray, z_qso: np.ndarray) -> np.ndarray:
    """Velocity, km/s, with which gas at z comes out of a quasar at z_qso, towards us; relativistic."""
    square = ((1 + z_qso) / (1 + z)) ** 2
    return grid.C_KMS * (square - 1) / (square + 1)


def trough(flux: np.ndarray, ivar: np.ndarray, places: np.ndarray) -> np.ndarray:
    """Length (N,), km/s, of the stretch around the lines at `places` (2, N) in which the smoothed flux is below 0.9.

    In units of the lower of two levels: the 60th percentiles of the smoothed 150 pixels on either side. A trough is
    below both; the wing of an emission line is not. Bad pixels belong to the stretch.
    """
    middle = np.rint(places.mean(0))
    y, weight = cut(flux, middle, WIDE), cut(ivar, middle, WIDE)
    y = np.where(weight > 0, y, np.nan)
    smooth = _running_mean(y)
    under = np.fmin(_level(smooth[:WIDE]), _level(smooth[WIDE + 1 :]))
    clear = np.nan_to_num(smooth / np.where(under > 0, under, np.inf)) >= TROUGH_LEVEL
    x = np.arange(-WIDE, WIDE + 1)[:, None]
    left, right = np.rint(places - middle)
    start = np.where(clear & (x <= left), x, -WIDE - 1).max(0)
    end = np.where(clear & (x >= right), x, WIDE + 1).min(0)
    return (end - start - 1) * grid.PIXEL_KMS


def _level(smooth: np.ndarray) -> np.ndarray:
    """The BRIGHT percentile (N,) of smooth (P, N), of which a single pixel would be noise; NaN of too few pixels."""
    few = np.isfinite(smooth).sum(0) < LEAST_SIDE
    return np.where(few, np.nan, np.nanpercentile(np.where(few, 1.0, smooth), BRIGHT, axis=0))


def _running_mean(y: np.ndarray) -> np.ndarray:
    """Mean of the SMOOTH pixels around each of y (P, N) that are not NaN; NaN where there are none."""
    padded = np.pad(y, ((SMOOTH // 2, SMOOTH // 2), (0, 0)), constant_values=np.nan)
    stack = np.stack([padded[i : i + len(y)] for i in range(SMOOTH)])
    count = np.isfinite(stack).sum(0)
    return np.where(count > 0, np.nansum(stack, axis=0) / np.maximum(count, 1), np.nan)


def flags(columns: Columns, settings: Any = None) -> dict[str, np.ndarray]:
    """What speaks against each absorber, bool (N,), by name; and one thing that does not: `associated`.

    coverage: less than half of a line is seen, or, where Fe II or Mg I confirms the absorber, of both. fit: status 2 or
    3. weak: S/N too low. ratio: W of the two lines not between saturated and thin. behind: behind the quasar. trough:
    part of broad absorption. sky: on night-sky lines that raise the errors, and not of high S/N. feii: Fe II of a
    stronger absorber; civ: C IV, as far as its quasar allows that. The last three need that neither Fe II nor Mg I
    confirms the absorber. associated: within 5000 km/s of the quasar.

    Args:
        columns: of `measure_all`. settings: attributes of `Settings`, whose defaults it has where None.
    """
    s, c = Settings() if settings is None else settings, columns
    below, above = (
        (c["ew_2796"] - bound * c["ew_2803"]) / np.hypot(c["ew_2796_err"], bound * c["ew_2803_err"])
        for bound in (s.least_ratio, s.most_ratio)
    )
    confirmed = np.maximum(c["feii_snr"], c["mgi_snr"]) > s.support_snr
    worst, best = (choose(c["good_2796"], c["good_2803"]) for choose in (np.minimum, np.maximum))
    listed = (c["sky_distance"] < s.sky_pixels) & (c["sky_noise"] > s.sky_raised)
    sky = (c["wave"] > s.sky_wave) & (c["sky_noise"] > s.sky_noise) | listed
    strongest = np.maximum(c["ew_2796"], c["ew_2803"])
    rival = (c["rival_snr"] > s.rival_snr) & (c["rival_snr"] > c["feii_snr"])
    rival &= c["rival_ew"] + c["rival_ew_err"] > s.rival_strength * strongest
    return {
        "coverage": np.where(confirmed, best, worst) < s.good,
        "fit": c["status"] > 1,
        "weak": (c["snr"] < s.doublet_snr) | (c["snr_2796"] < s.line_snr[0]) | (c["snr_2803"] < s.line_snr[1]),
        "ratio": (below < -s.ratio_sigma) | (above > s.ratio_sigma),
        "behind": c["dv"] < s.behind,
        "trough": c["trough"] > s.trough,
        "sky": sky & ~confirmed & (c["snr"] < s.sky_snr),
        "feii": rival & ~(confirmed & (c["feii_snr"] > c["rival_feii_snr"])),
        "civ": (c["civ_dv"] > -s.civ_speed) & (c["civ_delta_chi2"] < s.civ_margin) & ~confirmed,
        "associated": np.abs(c["dv"]) < s.associated,
    }
