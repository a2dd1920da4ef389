"""Which arcs a lens finder finds: injected into the user's own galaxies, counted by Einstein radius and brightness.

The threshold is set on the same galaxies without an arc, at a given false-positive rate, so that completeness and
contamination are of one survey. The arcs alone are simulated (sims/arcs.py); none is written to disk.
"""

import json
import pathlib
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np
from ml_collections import config_dict

import lensjax
from lensjax.core import checkpoint
from lensjax.core.errors import UserError
from lensjax.core.files import replacing
from lensjax.data.cutouts import GRZ
from lensjax.data.inject_arcs import galaxies, observing
from lensjax.embed import linear
from lensjax.embed.encoder import RELEASED, make_encoder
from lensjax.embed.probe import FOLDER, SUMMARY, is_current
from lensjax.embed.store import Embeddings
from lensjax.physics import bands
from lensjax.sims.arcs import make_arcs
from lensjax.surveys.cutouts import Cutouts, open_cutouts
from lensjax.tasks import metrics

NAME, FIGURE = "completeness.fits", "completeness.png"
STREAM = 77  # sets the arcs apart from those of data/inject_arcs.py
MAPS = {"THETA_E_MAG": "arc_mag", "THETA_E_SNR": "arc_snr"}  # extension -> the axis beside theta_e
Columns = dict[str, np.ndarray]


class Injected(NamedTuple):
    """Scores of galaxies without an arc, bare (H,), and of arcs (A,): score, theta_e, arc_mag, arc_snr, host."""

    bare: np.ndarray
    arcs: Columns


def measure_completeness(config: Any, workdir: str | pathlib.Path) -> Columns:
    """Write completeness.fits and completeness.png: which arcs around config.embed.input's galaxies are found.

    The finder is the network of the system "lens", or the probe of workdir for the system "ssl". Returns the arcs, with
    found (A,). UserError without a finder, or without a usable galaxy.
    """
    settings = config.completeness
    cutouts = open_cutouts(config.embed.input, config.data.size, bands=GRZ)
    injected = inject(config, cutouts, make_scorer(config, pathlib.Path(workdir)))
    cut = metrics.threshold_at_fpr(injected.bare, np.zeros(len(injected.bare)), settings.fpr)
    arcs = {**injected.arcs, "found": injected.arcs["score"] > cut}
    maps = {name: make_map(arcs, axis, settings) for name, axis in MAPS.items()}
    taken, galaxies = int((injected.bare > cut).sum()), len(injected.bare)
    text = json.dumps({name: config[name].to_dict() for name in ("completeness", "sim")}, sort_keys=True)
    about = {"CREATOR": f"lensjax {lensjax.__version__}", "CONFIG": text}
    about |= {"FPR": settings.fpr, "CUT": float(cut), "N_GAL": galaxies, "N_FALSE": taken, "N_ARC": len(arcs["found"])}
    write(pathlib.Path(workdir) / NAME, maps, about)
    draw(pathlib.Path(workdir) / FIGURE, maps, settings)
    print(
        f"{pathlib.Path(workdir) / NAME}: {arcs['found'].mean():.1%} of {len(arcs['found'])} arcs around "
        f"{galaxies} galaxies found, where {taken} of the galaxies alone are taken for lenses"
    )
    return arcs


def has_finder(config: Any, workdir: pathlib.Path) -> bool:
    """Whether there is something that tells lenses: weights of "lens", or for "ssl" a probe in workdir."""
    if config.system == "lens":
        return any(checkpoint.has_weights(folder) for folder in (workdir, RELEASED / config.system))
    return (workdir / FOLDER / SUMMARY).is_file()


def make_scorer(config: Any, workdir: pathlib.Path) -> Callable[[np.ndarray], np.ndarray]:
    """score(image (n, H, H, B) nanomaggies) -> (n,), higher is more lens-like.

    UserError without a finder, or with a probe of other embeddings than those of workdir.
    """
    if config.system == "lens":
        return make_encoder(config, workdir, output="logit").embed  # pyright: ignore[reportReturnType]: as numpy's
    if not has_finder(config, workdir):
        raise UserError(f"no probe in {workdir / FOLDER}: run --mode=probe with the same --workdir first.")
    embeddings = Embeddings(workdir)
    if not is_current(workdir / FOLDER, embeddings):
        raise UserError(f"the probe of {workdir} is of other embeddings: run --mode=embed and --mode=probe again.")
    encoder = make_encoder(config, workdir)
    if embeddings.about["weights"] != encoder.identity:
        raise UserError(f"the probe of {workdir} is of other weights: run --mode=embed and --mode=probe again.")
    with np.load(workdir / FOLDER / "classifiers.npz") as stored:
        probes = [linear.Probe(*pair) for pair in zip(stored["weight"], stored["bias"], strict=True)]

    return lambda images: linear.probability(probes, np.asarray(encoder.embed(images)))


def inject(config: Any, cutouts: Cutouts, score: Callable[[np.ndarray], np.ndarray]) -> Injected:
    """Score every usable galaxy as it is, and with each of config.completeness.arcs arcs; a batch is held at a time.

    Known lenses, label 1, are no galaxies of these. UserError for other bands, and where no galaxy can be used.
    """
    settings, size, table = config.completeness, config.embed.batch_size, cutouts.table()
    sim: Any = config_dict.ConfigDict(config.sim.to_dict())
    sim.source.min_snr = settings.min_snr
    arcs, key = make_arcs(sim, cutouts.size), jax.random.fold_in(jax.random.key(config.seed), STREAM)

    def one(row: Any, number: Any, *example: Any) -> dict[str, jax.Array]:
        return arcs(jax.random.fold_in(jax.random.fold_in(key, row), number), *example)

    add = jax.jit(jax.vmap(one, (0, None, 0, 0, 0, 0)))
    bare, parts = [], []
    for rows, images in galaxies(cutouts, table, size):
        example = (rows, images, *observing(images, rows, table, sim))
        row, image, *seeing = (np.resize(values, (size, *values.shape[1:])) for values in example)
        bare.append(np.asarray(score(image))[: len(rows)])
        for number in range(settings.arcs):
            made = add(row, number, image, *seeing)
            found = {"score": np.asarray(score(np.asarray(made["image"])))}
            found |= {name: np.asarray(made[name]) for name in ("theta_e", "arc_snr")}
            found["arc_mag"] = np.asarray(made["source_mag"]) - 2.5 * np.log10(np.asarray(made["magnification"]))
            found["arc_mag"] -= 2.5 * bands.EXTINCTION[1] * seeing[-1]  # r, as it is observed, behind the dust
            parts.append({name: values[: len(rows)] for name, values in found.items()} | {"host": rows})
    return Injected(np.concatenate(bare), {name: np.concatenate([p[name] for p in parts]) for name in parts[0]})


def make_map(arcs: Columns, axis: str, settings: Any) -> dict[str, np.ndarray]:
    """Cells of theta_e (rows) and `axis` (columns): see `metrics.completeness_map`, and the edges, rows and columns."""
    rows, columns = np.asarray(settings.theta_e, float), np.asarray(settings[axis], float)
    found = metrics.completeness_map(arcs["found"], arcs["theta_e"], arcs[axis], rows, columns)
    return {**found, "rows": rows, "columns": columns}


def write(path: pathlib.Path, maps: dict[str, dict[str, np.ndarray]], about: dict[str, Any]) -> None:
    """One table for each map, a row a cell: its ends, injected, found, completeness and its 68 % Jeffreys interval."""
    from astropy.io import fits
    from astropy.table import Table

    units: list[Any] = [fits.PrimaryHDU()]
    for name, axis in MAPS.items():
        cells = maps[name]
        table: Any = Table(meta=about)
        ends = {"theta_e": cells["rows"][:, None], axis: cells["columns"][None, :]}
        for column, edges in ends.items():
            along = 0 if column == "theta_e" else 1
            for end, part in (("low", np.delete(edges, -1, along)), ("high", np.delete(edges, 0, along))):
                table[f"{column}_{end}"] = np.broadcast_to(part, cells["found"].shape).ravel()
                table[f"{column}_{end}"].unit = {"theta_e": "arcsec", "arc_mag": "mag"}.get(column)
        table["injected"], table["found"] = cells["total"].ravel(), cells["found"].ravel()
        for column in ("completeness", "lower", "upper"):
            table[column] = cells[column].ravel()
        unit: Any = fits.table_to_hdu(table)
        unit.name = name
        units.append(unit)
    with replacing(path) as temporary:
        fits.HDUList(units).writeto(temporary, overwrite=True)


def draw(path: pathlib.Path, maps: dict[str, dict[str, np.ndarray]], settings: Any) -> None:
    """Both maps, per cent and half the 68 % interval in every cell that holds an arc."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 4.6), layout="constrained")
    labels = {"arc_mag": "r magnitude of the arc", "arc_snr": "S/N of the arc, best band"}
    image: Any = None
    for axis, (name, along) in zip(figure.subplots(1, 2), MAPS.items(), strict=True):
        cells = maps[name]
        places = [np.arange(len(cells[side])) for side in ("columns", "rows")]
        image = axis.pcolormesh(*places, 100 * cells["completeness"], vmin=0, vmax=100, cmap="viridis")
        for (y, x), value in np.ndenumerate(cells["completeness"]):
            if np.isfinite(value):
                half = 50 * (cells["upper"][y, x] - cells["lower"][y, x])
                colour = "black" if value > 0.6 else "white"
                text = f"{100 * value:.0f}\n±{half:.0f}"
                axis.text(x + 0.5, y + 0.5, text, ha="center", va="center", fontsize=7, color=colour)
        axis.set_xticks(places[0], [f"{edge:g}" for edge in cells["columns"]])
        axis.set_yticks(places[1], [f"{edge:g}" for edge in cells["rows"]])
        axis.set(xlabel=labels[along], ylabel="Einstein radius (arcsec)")
    figure.colorbar(image, ax=figure.axes, label="found, %; ± half the 68 % interval", pad=0.01)
    figure.suptitle(f"false-positive rate {100 * settings.fpr:g} %", fontsize=10)
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=130)
