"""Fits of Mg II doublets: fits a second beside scipy and lmfit, and in the same run whether their errors are right.

The peers fit a plainer model, two Gaussians of one width on a straight line, to the same pixels. Then the rate of all
columns of an absorber, with Fe II, Mg I and whatever else it may be, on whole spectra.
"""

import argparse
import itertools
import pathlib
import sys

import common
import numpy as np

PEER_FITS = 60  # by a peer in one round
SNR_BINS = (4.0, 6.0, 8.0, 12.0, 20.0, 50.0, np.inf)
WINDOW, WHOLE = (5540, 5780), (3600, 9800)  # Angstrom


def model(x, a, b, place, sigma, level, slope):
    """Two Gaussians 11.135 pixels apart on a line; W in pixels."""
    bells = [np.exp(-0.5 * ((x - place - s * 5.5675) / sigma) ** 2) / sigma / np.sqrt(2 * np.pi) for s in (-1, 1)]
    return (level + slope * x) * (1 - a * bells[0] - b * bells[1])


START = {"a": 1.5, "b": 1.0, "place": 0.0, "sigma": 1.7, "level": 1.0, "slope": 0.0}


def curve_fits(y: np.ndarray, ivar: np.ndarray) -> None:
    """scipy.optimize.curve_fit, Levenberg-Marquardt, one start."""
    from scipy.optimize import curve_fit

    x = np.arange(len(y)) - len(y) // 2
    for i in range(PEER_FITS):
        error = 1 / np.sqrt(np.maximum(np.float64(ivar[:, i]), 1e-12))
        try:
            curve_fit(model, x, np.float64(y[:, i]), list(START.values()), error, absolute_sigma=True, method="lm")
        except RuntimeError:  # no convergence within its number of calls
            continue


def lmfits(y: np.ndarray, ivar: np.ndarray) -> None:
    """lmfit.Model, its default (Levenberg-Marquardt), one start."""
    import lmfit

    x, peer = np.arange(len(y)) - len(y) // 2, lmfit.Model(model)
    for i in range(PEER_FITS):
        peer.fit(np.float64(y[:, i]), x=x, weights=np.sqrt(np.float64(ivar[:, i])), **START)


def check_pulls(truth: dict, table: dict) -> None:
    """Pulls of W and z by S/N, and how far off the redshifts are."""
    print("S/N of the doublet: number; pull of W2796, W2803, z: median, half of the central 68 %; rms of z; converged")
    for low, high in itertools.pairwise(SNR_BINS):
        here = (table["snr"] >= low) & (table["snr"] < high) & (table["status"] < 2)
        text = f"{low:5.0f} - {high:3.0f}: {here.sum():6d};"
        for name, true in (("ew_2796", "ew_2796"), ("ew_2803", "ew_2803"), ("z_abs", "z")):
            pull = ((table[name] - truth[true]) / table[f"{name}_err"])[here]
            text += f" {np.median(pull):+.2f} {np.diff(np.percentile(pull, [15.87, 84.13]))[0] / 2:.2f};"
        apart = ((table["z_abs"] - truth["z"]) / (1 + truth["z"]))[here]
        print(f"{text} {np.sqrt(np.mean(apart**2)):.1e}; {np.mean(table['status'][here] == 0):.3f}")
    bright = (table["snr"] > 8) & (table["status"] < 2)
    for name in ("ew_2796", "ew_2803"):
        pull = ((table[name] - truth[name]) / table[f"{name}_err"])[bright]
        width = np.diff(np.percentile(pull, [15.87, 84.13]))[0] / 2
        common.claim(f"how far the pull of {name} is from 1 at S/N > 8", abs(width - 1), 0.1, ".2f", most=True)
    apart = ((table["z_abs"] - truth["z"]) / (1 + truth["z"]))[bright]
    common.claim("rms of z at S/N > 8", float(np.sqrt(np.mean(apart**2))), 1e-4, ".1e", most=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--num", type=int, default=20_000, help="doublets")
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))
    from lensjax.core.compile import enable_cache
    from lensjax.fit import absorber_flags, doublet, mgii
    from lensjax.physics import grid
    from tests.fit import absorbed

    enable_cache()
    loglam, whole = grid.window(*WINDOW), grid.window(*WHOLE)
    truth = absorbed.draw(args.num, 0, loglam)
    wide = absorbed.draw(1000, 1, whole)
    position = grid.pixel(mgii.MIDDLE * (1 + truth["guess"]), loglam)
    y, ivar, unit = mgii.normalise(truth["flux"], truth["ivar"], position, None, doublet.HALF_WIDTH)
    centre, lsf = loglam[0] + np.rint(position) * grid.STEP, np.full(args.num, 1.05)
    measures = {
        "lensjax": lambda: common.rate(lambda: mgii.measure(y, ivar, centre, lsf, unit), args.num),
        "lmfit": lambda: common.rate(lambda: lmfits(y, ivar), PEER_FITS),
        "scipy curve_fit": lambda: common.rate(lambda: curve_fits(y, ivar), PEER_FITS),
        "all columns of whole spectra": lambda: common.rate(
            lambda: absorber_flags.measure_all(wide["flux"], wide["ivar"], wide["guess"], whole, wide["z"] + 0.5), 1000
        ),
    }
    rates = common.interleave(measures, args.rounds)
    common.claim("fits a second", rates["lensjax"], 20_000)
    for peer in ("lmfit", "scipy curve_fit"):
        print(f"ratio to {peer}: {rates['lensjax'] / rates[peer]:,.0f}")
    check_pulls(truth, mgii.measure(y, ivar, centre, lsf, unit))


if __name__ == "__main__":
    main()
