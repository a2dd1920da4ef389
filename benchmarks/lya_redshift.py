"""Lyman-alpha or [OII]? The whole-spectrum network beside the two-class networks with vetting, on the same mock plates.

Plates with one emitter of either kind in eight galaxies, lines of 3800-5000 A uniform in S/N. Each network's threshold
lets one in 300 galaxies without a line pass. Vetting says [OII] by the doublet fit and the companions (the cuts of
`select.OTHER_LINES`); the whole-spectrum network by itself. Intervals are 68 %.

    python benchmarks/lya_redshift.py --whole=runs/redshift --three=runs/three
"""

import argparse
import pathlib
import tempfile

import numpy as np
from lya_catalogue import share

CLOSE, SNR, BRIGHT, OTHERS = 5.0, 6.0, 8.0, 3.0
FPR = 1 / 300
Z_GOOD = 1e-3  # of 1 + z


def make_plates(plates: int, seed: int, folder: pathlib.Path) -> pathlib.Path:
    """Mock plates and their truth."""
    from configs import lya
    from lensjax.search.mock import write_mock_plates

    config = lya.get_config()
    config.seed = seed
    config.mock.update({"plates": plates, "lya_rate": 0.125, "oii_rate": 0.125, "line_law": "snr"})
    return write_mock_plates(config, folder / "mock")


def search(variant: str, workdir: str, plates: pathlib.Path, out: pathlib.Path) -> tuple[dict, dict]:
    """Columns of scores.parquet and of hits.parquet of the network in `workdir`, "" for the released one."""
    import pyarrow.parquet as pq

    from configs import lya
    from lensjax.search.restore import network
    from lensjax.search.score import search

    config = lya.get_config(variant)
    config.search.update({"input": str(plates), "report_hits": 0})
    config.search.threshold = 0.2  # so that every hit above the threshold of the comparison is vetted
    out.mkdir(parents=True, exist_ok=True)
    search(config, out, network(config, workdir or out))
    return tuple(
        {name: np.asarray(values) for name, values in pq.read_table(out / f"{table}.parquet").to_pydict().items()}
        for table in ("scores", "hits")
    )


def compare(truth: dict, scores: dict, hits: dict, whole: bool) -> dict[str, str]:
    """The row of one network in the table."""
    places = {fiber: i for i, fiber in enumerate(zip(truth["plate"], truth["fiberid"], strict=True))}
    order = [places[fiber] for fiber in zip(scores["plate"], scores["fiberid"], strict=True)]
    truth = {name: values[order] for name, values in truth.items()}
    galaxy = truth["kind"] != "sky"
    none, score = truth["kind"] == "galaxy", np.nan_to_num(scores["score"])
    threshold = np.quantile(score[none], 1 - FPR)
    with np.errstate(divide="ignore", invalid="ignore"):
        near = np.abs(np.log10(scores["wave"] / truth["wave"])) * 1e4 < CLOSE
    found = galaxy & near & (score > threshold)
    if whole:
        oii = scores["kind"] < 0.5
    else:
        from lensjax.search.select import CUTS, OTHER_LINES

        said = sum(1 << list(CUTS).index(name) for name in OTHER_LINES)
        oii = np.zeros(len(score), bool)
        oii[hits["index"][(hits["flags"] & said) > 0]] = True
    lya_line, oii_line = truth["kind"] == "lya", truth["kind"] == "oii"
    others = np.max([truth[f"snr_{name}"] for name in ("hbeta", "oiii", "halpha")], 0) > OTHERS
    rest = np.where(oii, 3728.48, 1215.67)
    true_rest = np.where(oii_line, 3728.48, 1215.67)
    with np.errstate(divide="ignore", invalid="ignore"):
        z_off = np.abs(scores["wave"] / rest - truth["wave"] / true_rest) / (truth["wave"] / true_rest)
    line = lya_line | oii_line
    bright = truth["snr"] > SNR
    return {
        "threshold": f"{threshold:.3f}",
        "Lyman-alpha found, S/N > 6": share(found[lya_line & bright])[1],
        "[OII] found, S/N > 6": share(found[oii_line & bright])[1],
        "Lyman-alpha found, S/N > 8, called so": share(~oii[found & lya_line & (truth["snr"] > BRIGHT)])[1],
        "[OII] found, another line of S/N > 3, called so": share(oii[found & oii_line & others])[1],
        "[OII] found, no such line, called so": share(oii[found & oii_line & ~others])[1],
        "redshift right, lines of S/N > 6 found": share((z_off < Z_GOOD)[found & line & bright])[1],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--whole", default="runs/redshift", help="a run of configs/lya.py:redshift")
    parser.add_argument("--three", default="", help="a run of configs/lya.py:threeclass; empty: left out")
    parser.add_argument("--plates", type=int, default=8)
    parser.add_argument("--seed", type=int, default=41)
    args = parser.parse_args()
    import pyarrow.parquet as pq

    from lensjax.core.compile import enable_cache

    enable_cache()
    with tempfile.TemporaryDirectory() as temporary:
        folder = pathlib.Path(temporary)
        plates = make_plates(args.plates, args.seed, folder)
        truth = {n: np.asarray(v) for n, v in pq.read_table(plates / "truth.parquet").to_pydict().items()}
        runs = [("two classes and vetting", "default", "", False)]
        runs += [("three classes and vetting", "threeclass", args.three, False)] if args.three else []
        runs += [("whole spectrum", "redshift", args.whole, True)]
        for name, variant, workdir, whole in runs:
            scores, hits = search(variant, workdir, plates, folder / variant)
            print(f"--- {name}")
            for text, value in compare(truth, scores, hits, whole).items():
                print(f"{text}: {value}")


if __name__ == "__main__":
    main()
