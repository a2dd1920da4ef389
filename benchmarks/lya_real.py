"""The lya search on real spectra: what it sees in galaxies, sky fibers and stars, and which injected lines it finds.

    python benchmarks/lya_real.py [--data FOLDER] [--workdir DIR] [--out DIR]

Every spectrum of the folder is scored; each above P = 0.5 is listed and drawn, so that it can be judged. Then lines
of the shapes of Cao et al. (2020) are added to the real galaxies that the search selects, at a matched-filter S/N
(true profile, the spectrum's own errors) of 6, 8 and 12, and scored by the network and by both matched filters.
Writes real.json, completeness.png and hits/*.png.
"""

import json
import pathlib
import sys
import types
from collections.abc import Callable
from typing import Any

import common
import jax
import jax.numpy as jnp
import numpy as np
from scipy import stats

from configs import lya as lya_config
from lensjax.core.compile import enable_cache
from lensjax.core.errors import UserError
from lensjax.core.files import replacing, write_text
from lensjax.evaluate.figures import STYLES, panels, save
from lensjax.fit import templates
from lensjax.models import make_model
from lensjax.physics import grid, lines
from lensjax.search import matched_filter, restore
from lensjax.sims import lya
from lensjax.surveys import Block, concatenate, find_files, read_block, select
from lensjax.tasks import make_task
from lensjax.tasks.features import make_features

FOLDERS = ("boss_galaxies", "boss_sky", "boss_stars", "sdss_legacy", "desi")
CONTROL = ("galaxy, selected", "galaxy, other", "sky", "star")  # where nothing may be found but real lines
SNRS, REPEATS = (6.0, 8.0, 12.0), 40
NEAR = 3.0  # pixels within which a line counts as located
BATCH = 40
SEED = 361
OWN_LINES = {  # emission lines of the object itself that a hit may be
    "[NeV]": 3426.8,
    "[OII]": lines.OII,
    "[NeIII]": 3869.9,
    "Hdelta": 4102.9,
    "Hgamma": 4341.7,
    "[OIII]4363": 4364.4,
    "HeII": 4687.0,
    "Hbeta": lines.HBETA,
    "[OIII]4960": lines.OIII[0],
    "[OIII]5008": lines.OIII[1],
    "MgII": 2799.1,
    "CIII]": 1908.7,
    "CIV": 1549.5,
    "Lya": lines.LYA,
}
Scores = dict[str, np.ndarray]
Score = Callable[[dict[str, np.ndarray]], Scores]


def load_weights(workdir: str | None, config: Any) -> tuple[Any, Any, Any]:
    """(config, params, model_state) of the workdir's best checkpoint, or of the released weights."""
    return restore.restore(config, workdir or "no-such-folder")


def make_scorers(config: Any, params: Any, model_state: Any) -> dict[str, Score]:
    """Functions of a batch (N rows, any N) -> score, wave, snr (N,), for the network and both matched filters."""
    network = make_task(config).predict
    return {
        "network": _in_batches(lambda batch: network(params, model_state, batch)),
        "practical": _in_batches(lambda batch: matched_filter.make_predict(config, practical=True)({}, {}, batch)),
        "traditional": _in_batches(lambda batch: matched_filter.make_predict(config, practical=False)({}, {}, batch)),
    }


def _in_batches(predict: Callable) -> Score:
    """`predict`, jitted for batches of BATCH; the last is filled with copies."""
    compiled = jax.jit(predict)

    def score(batch: dict[str, np.ndarray]) -> Scores:
        num, parts = len(batch["z"]), []
        for start in range(0, num, BATCH):
            rows = np.arange(start, start + BATCH) % num
            parts.append(jax.device_get(compiled({name: np.asarray(x)[rows] for name, x in batch.items()})))
        return {name: np.concatenate([p[name] for p in parts])[:num] for name in ("score", "logit", "wave", "snr")}

    return score


def make_pixel_probability(config: Any, params: Any, model_state: Any) -> Callable[[dict], np.ndarray]:
    """Function of one example -> (P,) probability that the object has a line at that pixel; they sum to its P."""
    features, _ = make_features(config)
    module = make_model(config.model)
    moving = {name: value for name, value in model_state.items() if name != "constants"}

    @jax.jit
    def probability(example: dict[str, jax.Array]) -> jax.Array:
        out = features(example, model_state["constants"])
        result = module.apply({"params": params, **moving}, out["x"][None], out["snr"][None], out["mask"][None])
        guide = result.get("pixel_logit", jnp.where(out["mask"], out["snr"], -jnp.inf)[None])
        return jax.nn.sigmoid(result["logit"][0]) * jax.nn.softmax(guide[0])

    return probability


def read_folders(data: pathlib.Path, loglam: np.ndarray) -> tuple[Block, int]:
    """All spectra of FOLDERS, and the number of files they came from."""
    files = [path for name in FOLDERS if (data / name).is_dir() for path, _ in find_files(str(data / name))]
    if not files:
        raise UserError(f"{data} has none of the folders {', '.join(FOLDERS)}: give the real data with --data")
    return concatenate([read_block(path, loglam) for path in files]), len(files)


def classify(table: dict[str, np.ndarray], selected: np.ndarray) -> np.ndarray:
    """Which control sample a spectrum belongs to, (N,) text; quasars are no control: their lines are many."""
    kind = np.char.lower(table["class"])
    galaxy = np.where(selected, "galaxy, selected", "galaxy, other")
    return np.where(table["sky"], "sky", np.where(kind == "galaxy", galaxy, np.where(kind == "qso", "quasar", kind)))


def own_line(wave: float, z: float) -> str:
    """The line of the object itself (redshift z) within 5 pixels of `wave`, else the nearest sky line, else ''."""
    distance = {name: np.log10(wave / (rest * (1 + z))) / grid.STEP for name, rest in OWN_LINES.items()}
    name = min(distance, key=lambda key: abs(distance[key]))
    if abs(distance[name]) <= 5:
        return f"{name} of the object"
    sky = min((*lines.SKY_LINES, *lines.AIRGLOW), key=lambda line: abs(line - wave))
    return f"sky {sky:.1f}" if abs(np.log10(wave / sky)) / grid.STEP <= 4 else ""


def describe(block: Block, sample: np.ndarray, scores: dict[str, Scores]) -> list[dict[str, Any]]:
    """One record a spectrum: who it is, what the methods say."""
    records = []
    for i in range(len(block.z)):
        table = {name: column[i] for name, column in block.table.items()}
        wave = float(scores["network"]["wave"][i])
        records.append(
            {
                "file": pathlib.Path(table["file"]).name,
                "sample": str(sample[i]),
                "subclass": str(table["subclass"]),
                "z": round(float(block.z[i]), 5),
                "zwarning": int(table["zwarning"]),
                "status": str(table["status"]),
                "score": round(float(scores["network"]["score"][i]), 5),
                "logit": round(float(scores["network"]["logit"][i]), 3),
                "wave": round(wave, 2),
                "snr": round(float(scores["network"]["snr"][i]), 2),
                "near": own_line(wave, float(block.z[i])),
                "practical": round(float(scores["practical"]["snr"][i]), 2),
                "traditional": round(float(scores["traditional"]["snr"][i]), 2),
            }
        )
    return records


def continuum(config: Any, loglam: np.ndarray, flux: np.ndarray, ivar: np.ndarray, z: float) -> np.ndarray:
    """The template fit (P,) of one spectrum, off the lens galaxy's lines."""
    basis = matched_filter.load_basis(config)
    masked = np.asarray(lya.lens_mask(jnp.asarray(grid.wave(loglam), jnp.float32), z))
    design = templates.make_design(basis, float(loglam[0]), len(loglam), jnp.float32(z))
    return np.asarray(templates.fit_templates(jnp.asarray(flux), jnp.asarray(np.where(masked, 0, ivar)), design)[0])


def draw_hit(
    config: Any, loglam: np.ndarray, block: Block, row: int, probability: np.ndarray, record: dict, path: pathlib.Path
) -> None:
    """The spectrum and its template fit; the surroundings of the hit; residual over error and P per pixel there."""
    flux, ivar = block.flux[row], block.ivar[row]
    model = continuum(config, loglam, flux, ivar, float(block.z[row]))
    wave, seen = grid.wave(loglam), ivar > 0
    error = np.where(seen, 1 / np.sqrt(np.where(seen, ivar, 1)), np.nan)
    figure, axes = panels(3, 1, width=10, height=2.5)
    near = np.abs(np.log10(wave / record["wave"])) < 60 * grid.STEP
    for axis, part in ((axes[0, 0], np.ones_like(near)), (axes[1, 0], near)):
        axis.step(wave[part], np.where(seen, flux, np.nan)[part], where="mid", color="0.3", linewidth=0.7)
        axis.plot(wave[part], error[part], color="#D55E00", linewidth=0.7)
        axis.plot(wave[part], model[part], color="#0072B2", linewidth=1)
        axis.axvline(record["wave"], color="black", linestyle=":", linewidth=0.8)
    axes[2, 0].step(wave[near], ((flux - model) / error)[near], where="mid", color="0.3", linewidth=0.8)
    twin = axes[2, 0].twinx()
    twin.plot(wave[near], probability[near], color="#009E73")
    twin.set(ylim=(0, 1), ylabel="P per pixel")
    axes[0, 0].set_ylim(*np.nanpercentile(np.where(seen, flux, np.nan), [0.2, 99.8]) + np.array([-0.3, 0.6]))
    keys = ("sample", "subclass", "z", "score", "wave", "snr", "near", "practical")
    axes[0, 0].set_title(record["file"] + "\n" + "  ".join(f"{key} {record[key]}" for key in keys), fontsize=8)
    axes[0, 0].set_ylabel("flux, error, fit")
    axes[2, 0].set(ylabel="residual / error", xlabel="vacuum wavelength (Å)")
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=80)


def make_inject(config: Any, loglam: np.ndarray) -> Callable:
    """inject(key, example, snr) -> (example with a line, truth): the simulator's lines on a real spectrum, vmapped.

    Shapes as the config's skew normals, through the spectrum's own line-spread function; centres anywhere off the
    masks; flux such that the S/N of the true profile under the spectrum's own errors is `snr`.
    """
    wave, masked = jnp.asarray(grid.wave(loglam), jnp.float32), lya.masked_lines(config)

    def inject(key: jax.Array, example: dict[str, jax.Array], snr: jax.Array):
        law = {"line_law": "snr", "snr_range": (snr, snr), "line_profile": "skewnormal", "mirror_fraction": 0.1}
        sim = types.SimpleNamespace(**law, line_fraction=2.0, oii_fraction=0.0)
        good = example["ivar"] > 0
        sigma = jnp.where(good, example["ivar"], 1.0) ** -0.5
        instrument = types.SimpleNamespace(wave=wave, lsf=example["wdisp"])
        line = lya.draw_line(key, sim, instrument, {"ivar": example["ivar"], "sigma": sigma}, example["z"], masked)
        flux = jnp.where(good, example["flux"] + line["model"], 0.0)
        truth = {name: line[name] for name in ("wave", "snr", "line_sigma", "line_alpha", "line_flux")}
        return {**example, "flux": flux}, truth

    return jax.jit(jax.vmap(inject, in_axes=(0, None, 0)))


def run_injection(config: Any, loglam: np.ndarray, block: Block, scorers: dict[str, Score]) -> dict[str, np.ndarray]:
    """REPEATS lines of each S/N in each spectrum of `block`: the truths and the methods' answers, (N,) columns."""
    inject, parts = make_inject(config, loglam), []
    keys = jax.random.split(jax.random.key(SEED), (len(block.z), len(SNRS)))
    for galaxy in range(len(block.z)):
        example = {name: jnp.asarray(x[galaxy]) for name, x in block.batch().items()}
        for j, snr in enumerate(SNRS):
            batch, truth = inject(jax.random.split(keys[galaxy, j], REPEATS), example, jnp.full(REPEATS, snr))
            batch = {name: np.asarray(x) for name, x in batch.items()}
            row = {name: np.asarray(x) for name, x in truth.items()}
            row |= {"galaxy": np.full(REPEATS, galaxy), "target": np.full(REPEATS, snr)}
            for method, score in scorers.items():
                out = score(batch)
                offset = np.abs(np.log10(out["wave"] / row["wave"])) / grid.STEP
                row |= {f"{method}_found": out["score"] > 0.5, f"{method}_offset": offset}
                row |= {f"{method}_score": out["score"]}
            parts.append(row)
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def rate(found: np.ndarray) -> dict[str, float]:
    """Share of True with its 68 % and 95 % binomial (Clopper-Pearson) intervals."""
    test = stats.binomtest(int(np.sum(found)), len(found))
    low, high = test.proportion_ci(0.6827)
    low95, high95 = test.proportion_ci(0.95)
    values = {"rate": np.mean(found), "low": low, "high": high, "low95": low95, "high95": high95}
    return {name: round(float(value), 4) for name, value in values.items()} | {"number": len(found)}


def summarise(injected: dict[str, np.ndarray], methods: list[str]) -> dict[str, Any]:
    """Completeness of each method at each S/N, and how many of its hits at S/N >= 8 are located."""
    out: dict[str, Any] = {}
    for method in methods:
        found = injected[f"{method}_found"]
        by_snr = {f"{snr:g}": rate(found[injected["target"] == snr]) for snr in SNRS}
        strong = found & (injected["target"] >= 8)
        located = rate(injected[f"{method}_offset"][strong] <= NEAR) if strong.any() else None
        out[method] = {"completeness": by_snr, "located": located}
    return out


def draw_completeness(summary: dict[str, Any], number: int, path: pathlib.Path) -> None:
    """Completeness against injected S/N of the three methods, with 68 % binomial errors."""
    figure, axes = panels(1, 1, width=6.4, height=4.4)
    axis = axes[0, 0]
    for offset, method in zip((0, -0.12, 0.12), summary, strict=True):
        rows = [summary[method]["completeness"][f"{snr:g}"] for snr in SNRS]
        middle = np.array([row["rate"] for row in rows])
        errors = np.abs([middle - [row["low"] for row in rows], [row["high"] for row in rows] - middle])
        axis.errorbar(np.array(SNRS) + offset, middle, errors, marker="o", markersize=4, capsize=3, **STYLES[method])
    axis.set(xlabel="S/N of the injected line", ylabel="completeness", ylim=(0, 1.03), xticks=SNRS)
    axis.set_title(f"lines injected into {number} real BOSS galaxies, {number * REPEATS} at each S/N", fontsize=11)
    axis.grid(alpha=0.3)
    axis.legend(loc="lower right", fontsize=9)
    save(figure, path)


def print_spectra(records: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Prints the maximum P of each sample and the hits; returns the maxima."""
    maxima = {}
    for name in (*CONTROL, "quasar"):
        distinct = {record["file"]: record for record in records}  # one sky fiber lies in two folders
        members = [record for record in distinct.values() if record["sample"] == name]
        if members:
            best = max(members, key=lambda record: record["logit"])
            hits = sum(record["score"] > 0.5 for record in members)
            maxima[name] = {"number": len(members), "hits": hits, "max": best["score"], "file": best["file"]}
            print(
                f"{name:17s} {len(members):3d} spectra, {hits} above 0.5, highest P {best['score']:.4f} {best['file']}"
            )
    for record in sorted(records, key=lambda record: -record["logit"]):
        if record["score"] > 0.25:
            print("  " + "  ".join(f"{key}={value}" for key, value in record.items() if value != ""))
    return maxima


def print_injection(injected: dict[str, np.ndarray], summary: dict[str, Any], names: list[str]) -> None:
    """Prints completeness by S/N, and the network's by galaxy, wavelength and width."""
    for method, values in summary.items():
        cells = [
            f"S/N {snr}: {100 * c['rate']:.1f} % [{100 * c['low95']:.1f}, {100 * c['high95']:.1f}]"
            for snr, c in values["completeness"].items()
        ]
        located = values["located"]
        where = f"; located within 3 px (S/N >= 8): {100 * located['rate']:.1f} %" if located else ""
        print(f"{method:12s} {', '.join(cells)} (95 %){where}")
    cuts = {
        "galaxy": (injected["galaxy"], range(len(names)), lambda x, v: x == v, lambda v: names[v]),
        "wave": (injected["wave"], range(3800, 5000, 200), lambda x, v: (x >= v) & (x < v + 200), str),
        "sigma": (injected["line_sigma"], (50, 120, 190, 260), lambda x, v: (x >= v) & (x < v + 70.0), str),
        "alpha<0": (injected["line_alpha"] < 0, (False, True), lambda x, v: x == v, str),
    }
    for name, (column, values, inside, label) in cuts.items():
        for value in values:
            here = inside(column, value)
            cells = []
            for method in summary:
                found = [injected[f"{method}_found"][here & (injected["target"] == snr)] for snr in SNRS]
                cells.append(" ".join(f"{100 * f.mean():3.0f}" if len(f) else "  -" for f in found))
            print(f"  {name:8s} {label(value):28s} {' | '.join(cells)}   ({here.sum()} lines; {', '.join(summary)})")


def main() -> None:
    parser = common.real_data_parser(__doc__)
    parser.add_argument("--workdir", default=None, help="of a training run; default the released weights")
    args = parser.parse_args()
    data, out = common.real_data_folders(args)
    enable_cache()
    config, params, model_state = load_weights(args.workdir, lya_config.get_config())
    loglam = grid.window(*config.data.window)
    block, num_files = read_folders(data, loglam)
    selected, _ = select(block.table, config.select)
    scorers = make_scorers(config, params, model_state)
    scores = {method: score(block.batch()) for method, score in scorers.items()}
    records = describe(block, classify(block.table, selected), scores)
    print(f"{num_files} files, {len(records)} spectra scored, {sum(bool(r['status']) for r in records)} with a problem")
    maxima = print_spectra(records)
    probability = make_pixel_probability(config, params, model_state)
    for old in (out / "hits").glob("*.png"):
        old.unlink()
    for row, record in enumerate(records):
        if record["score"] > 0.5:
            example = {name: jnp.asarray(x[row]) for name, x in block.batch().items()}
            path = out / "hits" / f"{record['file'].removesuffix('.fits')}.png"
            draw_hit(config, loglam, block, row, np.asarray(probability(example)), record, path)
    lenses = block.take(selected & (block.table["survey"] != "SDSS") & (block.table["survey"] != "DESI"))
    injected = run_injection(config, loglam, lenses, scorers)
    summary = summarise(injected, list(scorers))
    print_injection(injected, summary, [pathlib.Path(name).stem for name in lenses.table["file"]])
    result = {"files": num_files, "samples": maxima, "spectra": records, "injected": summary}
    result |= {"galaxies": len(lenses.z), "repeats": REPEATS}
    write_text(out / "real.json", json.dumps(result, indent=1))
    draw_completeness(summary, len(lenses.z), out / "completeness.png")
    print(f"written: {out}/real.json, completeness.png, hits/")


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        sys.exit(f"lya_real: {error}")
