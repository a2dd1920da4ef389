"""Labels of a survey's objects from a list of known lenses, and training samples uniform in magnitude.

Stein et al. (2022), sections 2.2 and 3.1: a lens is the source nearest to the listed position, within the width of an
image; its other neighbours there are no lens, but no negative either, since the arc may show in their images.
"""

from typing import NamedTuple

import numpy as np

from lensjax.core.errors import UserError
from lensjax.physics.bands import PIXEL, ZERO_POINT

RADIUS = 96 * PIXEL  # arcsec: the width of an image


class Labels(NamedTuple):
    """Of N objects.

    lens: (N,) int, row of the listed lens that the object is, -1 where it is none.
    near: (N,) float, arcsec to the nearest listed lens within the radius, else NaN; lenses have theirs too.
    lost: (L,) bool, listed lenses without any object within the radius.
    placed: (N,) bool, whether it has a place in the sky.
    """

    lens: np.ndarray
    near: np.ndarray
    lost: np.ndarray
    placed: np.ndarray

    @property
    def is_lens(self) -> np.ndarray:
        """bool (N,)."""
        return self.lens >= 0

    @property
    def is_negative(self) -> np.ndarray:
        """bool (N,): in the sky, and neither a lens nor near one."""
        return self.placed & np.isnan(self.near)


def match_lenses(ra, dec, lens_ra, lens_dec, radius: float = RADIUS) -> Labels:
    """Match listed lenses to objects on the sky.

    Args:
        ra, dec: (N,) degrees, of the objects; those with NaN, or beyond the poles, match nothing and are
            no negatives.
        lens_ra, lens_dec: (L,) degrees, of the list.
        radius: arcsec.

    Where one object is the nearest to several listed lenses, it is the nearest of these.
    UserError for listed positions that are not finite.
    """
    from astropy import units
    from astropy.coordinates import SkyCoord, search_around_sky

    ra, dec, lens_ra, lens_dec = (np.atleast_1d(np.asarray(a, np.float64)) for a in (ra, dec, lens_ra, lens_dec))
    bad = ~(np.isfinite(lens_ra) & np.isfinite(lens_dec) & (np.abs(lens_dec) <= 90))
    if bad.any():
        raise UserError(
            f"row {np.flatnonzero(bad)[0]} of the lenses is at {lens_ra[bad][0]}, {lens_dec[bad][0]}: "
            "expected degrees; remove the row or mend it"
        )
    placed = np.isfinite(ra) & (np.abs(dec) <= 90)  # not so of NaN
    labels = Labels(np.full(len(ra), -1), np.full(len(ra), np.nan), np.ones(len(lens_ra), bool), placed)
    known = np.flatnonzero(placed)
    if not len(known) or not len(lens_ra):
        return labels
    sources, lenses = SkyCoord(ra[known], dec[known], unit="deg"), SkyCoord(lens_ra, lens_dec, unit="deg")
    which, source, distance, _ = search_around_sky(lenses, sources, radius * units.arcsec)
    distance = np.asarray(distance.to_value(units.arcsec))
    order = np.argsort(distance, kind="stable")
    which, source, distance = which[order], known[source[order]], distance[order]
    objects, first = np.unique(source, return_index=True)
    labels.near[objects] = distance[first]
    listed, nearest = np.unique(which, return_index=True)
    labels.lost[listed] = False
    farthest_first = nearest[np.argsort(-distance[nearest], kind="stable")]
    labels.lens[source[farthest_first]] = which[farthest_first]
    return labels


def magnitude(flux) -> np.ndarray:
    """AB magnitudes of nanomaggies, any shape; NaN where the flux is not positive."""
    flux = np.asarray(flux, np.float64)
    return np.where(flux > 0, ZERO_POINT - 2.5 * np.log10(np.where(flux > 0, flux, 1.0)), np.nan)


def sample_uniform(mag, num: int, seed: int, limit: float = 20.0, bins: int = 40) -> np.ndarray:
    """Rows (num,), ascending and different, of objects brighter than `limit`, as evenly in magnitude as there are any.

    mag: (N,), NaN where unknown. Bins of equal width from the brightest to the limit each give the same number; where
    one has too few, all of them are taken and the others give more. UserError where there are not `num` at all.
    """
    mag = np.asarray(mag, np.float64)
    rows = np.flatnonzero(mag < limit)
    if len(rows) < num:
        raise UserError(f"{len(rows)} objects are brighter than {limit:g} mag: expected {num} or more; ask for fewer")
    edges = np.linspace(mag[rows].min() if len(rows) else limit, limit, bins + 1)
    place = np.clip(np.searchsorted(edges, mag[rows], "right") - 1, 0, bins - 1)
    rng = np.random.default_rng(seed)
    shuffled = rng.permutation(len(rows))
    shuffled = shuffled[np.argsort(place[shuffled], kind="stable")]  # by bin, at random within each
    counts = np.bincount(place, minlength=bins)
    rank = np.arange(len(rows)) - np.repeat(np.cumsum(counts) - counts, counts)
    # the first of every bin, then the second of every bin, ...: the shares are as even as the counts allow
    taken = np.lexsort((rng.random(len(rows)), rank))[:num]
    return np.sort(rows[shuffled[taken]])
