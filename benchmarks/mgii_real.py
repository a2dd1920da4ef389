"""The Mg II search on real BOSS and eBOSS quasars, beside systems and look-alikes that were vetted by eye.

    python benchmarks/mgii_real.py [--data FOLDER] [--workdir DIR] [--out DIR] [--figure PNG]

Searches the folder boss_quasars as a user would, then compares the catalogue with mgii_vetted.csv: every `certain` and
`probable` system has to be there within 100 km/s, with W2796 and W2803 within two standard deviations (ours and 0.2 A,
which Gaussian fits are good to), and no `trap` may be. Every other candidate is listed for the reader to judge, with
its figure in figures/ and on report.html, and all of them in one with --figure. Writes real.json beside them.
"""

import argparse
import csv
import json
import pathlib
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from configs import mgii
from lensjax.core.compile import enable_cache
from lensjax.core.files import replacing, write_text
from lensjax.physics import grid
from lensjax.search import absorber_page, restore
from lensjax.search.candidates import Vetted, read_vetted
from lensjax.search.score import search

SPEED, SIGMAS, LISTED_ERROR = 100.0, 2.0, 0.2  # km/s; standard deviations; A
TRAP_SPEED = 3000.0  # km/s: redshifts of traps are good to 0.01


def compare(row: dict[str, str], found: dict[str, np.ndarray]) -> dict[str, Any]:
    """One vetted row against the catalogue."""
    same = (
        (found["plate"] == int(row["plate"]))
        & (found["mjd"] == int(row["mjd"]))
        & (found["fiberid"] == int(row["fiber"]))
    )
    z = float(row["z_abs"])
    speed = grid.C_KMS * np.abs(np.log((1 + found["z_abs"]) / (1 + z)))
    near = same & (speed < (TRAP_SPEED if row["kind"] == "trap" else SPEED))
    out: dict[str, Any] = {name: row[name] for name in ("plate", "mjd", "fiber", "z_abs", "kind", "note")}
    out["found"] = bool(near.any())
    if near.any() and row["kind"] != "trap":
        i = np.flatnonzero(near)[0]
        out |= {"z_found": float(found["z_abs"][i]), "km_s": float(speed[i]), "score": float(found["score"][i])}
        for name in ("ew_2796", "ew_2803"):
            listed = float(row[name.replace("_", "")])
            off = (found[name][i] - listed) / np.hypot(found[f"{name}_err"][i], LISTED_ERROR)
            out |= {name: float(found[name][i]), f"{name}_listed": listed, f"{name}_sigmas": float(off)}
    out["holds"] = out["found"] != (row["kind"] == "trap")
    if out["found"] and row["kind"] == "certain":
        out["holds"] &= all(abs(out[f"{name}_sigmas"]) < SIGMAS for name in ("ew_2796", "ew_2803"))
    return out


def draw(vetted: Vetted, chosen: list[int], path: pathlib.Path) -> None:
    """The chosen candidates side by side, each line of each in velocity."""
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context({"font.size": 8}), replacing(path) as temporary:
        figure = Figure(figsize=(13, 3.6 * -(-len(chosen) // 3)))
        pieces = figure.subfigures(-(-len(chosen) // 3), 3, squeeze=False).ravel()
        for piece, i in zip(pieces, chosen, strict=False):
            row = vetted.rows[i]
            absorber_page.draw_velocity(piece, vetted.spectra[i], row, vetted.loglam)
            piece.subplots_adjust(top=0.9)
            width = f"W {row['ew_2796']:.2f} ± {row['ew_2796_err']:.2f} Å, S/N {row['fit_snr']:.1f}"
            piece.suptitle(f"{row['plate']}-{row['fiberid']} at {row['z_abs']:.4f}: {width}", fontsize=9)
        figure.savefig(temporary, format="png", dpi=90)


def main() -> None:
    """Search, compare, write and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    here = pathlib.Path(__file__).resolve().parents[1]
    parser.add_argument("--data", type=pathlib.Path, default=here.parent / "shared" / "data" / "boss_quasars")
    parser.add_argument("--workdir", default="no-such-folder", help="of a training; default: the released weights")
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("runs/mgii_real"))
    parser.add_argument("--figure", type=pathlib.Path, help="PNG of the candidates to judge")
    args = parser.parse_args()
    if not (args.data / "mgii_vetted.csv").is_file():
        parser.error(f"{args.data} holds no mgii_vetted.csv: give the folder of it and of the quasars with --data")
    enable_cache()
    config = mgii.get_config()
    config.search.input = str(args.data)
    config.search.report_figures = 100
    args.out.mkdir(parents=True, exist_ok=True)
    scorer = restore.make_scorer(config, args.workdir)
    search(config, args.out, scorer)
    table = pq.read_table(args.out / "candidates.parquet")
    found = {name: table.column(name).to_numpy(zero_copy_only=False) for name in table.column_names}
    rows = list(csv.DictReader((args.data / "mgii_vetted.csv").read_text().splitlines()))
    told = [compare(row, found) for row in rows]
    for one in told:
        print("holds" if one["holds"] else "FAILS", json.dumps(one))
    known = np.zeros(len(found["z_abs"]), bool)
    for one in told:
        if one["found"] and one["kind"] != "trap":
            known |= np.isclose(found["z_abs"], one["z_found"])
    others = [{name: found[name].tolist()[i] for name in OTHERS} for i in np.flatnonzero(~known)]
    for one in others:
        print("to judge:", json.dumps(one))
    if args.figure:
        vetted = read_vetted(scorer.config or config, args.out, scorer.identity, absorber_page.read_spectra)
        assert vetted is not None
        chosen = [one["z_abs"] for one in others]
        draw(vetted, [i for i, row in enumerate(vetted.rows) if row["z_abs"] in chosen], args.figure)
    write_text(args.out / "real.json", json.dumps({"vetted": told, "others": others}, indent=1))


OTHERS = (
    "plate",
    "mjd",
    "fiberid",
    "z_qso",
    "z_abs",
    "ew_2796",
    "ew_2796_err",
    "ew_2803",
    "fit_snr",
    "feii_snr",
    "mgi_snr",
)
OTHERS += ("score", "grade", "doubts")

if __name__ == "__main__":
    main()
