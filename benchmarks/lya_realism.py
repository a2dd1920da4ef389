"""Do mock galaxies look like real ones? A figure side by side, and a classifier that tries to tell them apart.

    python benchmarks/lya_realism.py [--data FOLDER] [--out DIR]

Each real BOSS galaxy that the search selects is set beside mocks of the same redshift and signal-to-noise. Spectra are
cut into pieces of 149 pixels, described by numbers (moments and correlations of the pulls, power spectrum, error
curve, continuum), and classified by logistic regression and by gradient boosting; all pieces of a galaxy and of its
mocks are held out together. An area under the ROC curve of 0.5 means that nothing tells them apart. Beside it: the
same number of mocks in the place of the real galaxies (what chance gives), and mocks with planted flaws (what would
be noticed). Writes realism.json, realism.png (labelled) and realism_blind.png (the same spectra, shuffled).
"""

import io
import itertools
import json
import pathlib
from typing import Any

import common
import jax
import jax.numpy as jnp
import numpy as np
from scipy import ndimage, stats

from configs import lya as lya_config
from lensjax.core.compile import enable_cache
from lensjax.core.files import replacing, write_text
from lensjax.data.batches import make_simulator
from lensjax.evaluate.figures import panels
from lensjax.fit import templates
from lensjax.physics import grid
from lensjax.search import matched_filter
from lensjax.sims import lya
from lensjax.surveys import concatenate, find_files, read_block, select

SEGMENT = 149  # pixels: 8 pieces of a window of 1192
DRAWN, PER_GALAXY, CHUNK = 3000, 8, 250
SHOWN = 6  # pairs in the figure
SEED = 4000
VIEWS = {  # by the first letters of the features they see
    "continuum in (all features)": ("p:", "e:", "c:"),
    "continuum removed (pulls, errors)": ("p:", "e:"),
    "pulls alone": ("p:",),
    "errors alone": ("e:",),
    "continuum alone": ("c:",),
}
Sample = dict[str, np.ndarray]


def read_galaxies(data: pathlib.Path, config: Any, loglam: np.ndarray) -> Sample:
    """The real BOSS galaxies that config.select keeps."""
    block = concatenate([read_block(path, loglam) for path, _ in find_files(str(data / "boss_galaxies"))])
    return block.take(select(block.table, config.select)[0]).batch()


def draw_mocks(config: Any, dirt: float, stream: int) -> Sample:
    """DRAWN mock galaxies without lines, with the continuum and the noise that only mocks know."""
    config = config.copy_and_resolve_references()
    config.sim.update({"line_fraction": 0.0, "dirt": dirt})
    simulate = jax.jit(jax.vmap(make_simulator(config)))
    key = jax.random.fold_in(jax.random.key(SEED), stream)
    kept = ("flux", "ivar", "wdisp", "z", "continuum", "artefact")
    parts = []
    for i in range(DRAWN // CHUNK):
        out = simulate(jax.random.split(jax.random.fold_in(key, i), CHUNK))
        parts.append(jax.device_get({name: out[name] for name in kept}))
    return {name: np.concatenate([part[name] for part in parts]) for name in kept}


def brightness(sample: Sample) -> np.ndarray:
    """ln of the median flux over error in the redder half (N,), at least 0.05."""
    half = sample["flux"].shape[1] // 2
    return np.log(np.maximum(np.median((sample["flux"] * np.sqrt(sample["ivar"]))[:, half:], axis=1), 0.05))


def match(real: Sample, mocks: Sample, number: int) -> np.ndarray:
    """Rows (N, number) of the mocks nearest to each real galaxy in redshift and S/N, none twice."""
    near_z = (real["z"][:, None] - mocks["z"][None]) / 0.03
    near_s = (brightness(real)[:, None] - brightness(mocks)[None]) / 0.15
    distance = near_z**2 + near_s**2
    rows = np.zeros((len(real["z"]), number), int)
    for j in range(number):
        for i in range(len(rows)):
            rows[i, j] = np.argmin(distance[i])
            distance[:, rows[i, j]] = np.inf
    return rows


def take(sample: Sample, rows: np.ndarray) -> Sample:
    return {name: column[rows] for name, column in sample.items()}


def make_fit(config: Any, loglam: np.ndarray):
    """fit(flux, ivar, z) -> template model of many spectra (N, P), as the search fits them."""
    basis = matched_filter.load_basis(config)
    wave = jnp.asarray(grid.wave(loglam), jnp.float32)

    def fit(flux: jax.Array, ivar: jax.Array, z: jax.Array) -> jax.Array:
        design = templates.make_design(basis, float(loglam[0]), len(loglam), z)
        return templates.fit_templates(flux, jnp.where(lya.lens_mask(wave, z), 0.0, ivar), design)[0]

    return jax.jit(jax.vmap(fit))


def correlation(pull: np.ndarray, lag: int) -> float:
    """Autocorrelation of (n,) at `lag` pixels."""
    centred = pull - pull.mean()
    return float(np.mean(centred[lag:] * centred[:-lag]) / max(np.mean(centred**2), 1e-9))


def pull_features(pull: np.ndarray) -> dict[str, float]:
    """Moments, tails, correlations and power of the pulls (n,) of a piece."""
    low, high = np.percentile(pull, [15.87, 84.13])
    power = np.abs(np.fft.rfft(pull - pull.mean())) ** 2 / len(pull)
    edges = np.array([1, 4, 10, 25, 50, len(power)])
    bands = [np.log(power[a:b].mean() + 1e-3) for a, b in itertools.pairwise(edges)]
    core = np.clip(pull, -4, 4)
    return {
        "p:mean": pull.mean(),
        "p:log std": np.log(core.std() + 1e-3),
        "p:log core": np.log(0.5 * (high - low) + 1e-3),
        "p:skewness": float(stats.skew(core)),
        "p:kurtosis": float(stats.kurtosis(core)),
        "p:log max": np.log(max(pull.max(), 0.5)),
        "p:log -min": np.log(max(-pull.min(), 0.5)),
        **{f"p:correlation {lag}": correlation(core, lag) for lag in (1, 2, 3, 5, 10)},
        **{f"p:power {a}-{b}": value for (a, b), value in zip(itertools.pairwise(edges), bands, strict=True)},
    }


def error_features(error: np.ndarray, pull: np.ndarray) -> dict[str, float]:
    """The error curve of a piece: level, slope, curvature, change from pixel to pixel, and with the counts."""
    log_error = np.log(error)
    x = np.linspace(-1, 1, len(error))
    curve = np.polynomial.legendre.legfit(x, log_error, 2)
    rest = log_error - np.polynomial.legendre.legval(x, curve)
    return {
        "e:level": curve[0],
        "e:slope": curve[1],
        "e:curvature": curve[2],
        "e:log scatter": np.log(rest.std() + 1e-3),
        "e:log jitter": np.log(np.abs(np.diff(log_error, 2)).mean() + 1e-3),
        "e:correlation 1": correlation(rest, 1),
        "e:correlation 3": correlation(rest, 3),
        "e:follows counts": float(np.corrcoef(rest - ndimage.median_filter(rest, 15), np.clip(pull, -4, 4))[0, 1]),
        "e:max": rest.max(),
        "e:min": rest.min(),
    }


def continuum_features(flux: np.ndarray, error: np.ndarray) -> dict[str, float]:
    """Level, slope and structure of the flux of a piece, in units of its error."""
    snr = flux / np.median(error)
    curve = np.polynomial.legendre.legfit(np.linspace(-1, 1, len(flux)), snr, 2)
    smooth = {width: ndimage.gaussian_filter1d(snr, width) for width in (2, 5, 12, 30)}
    steps = ((2, 5), (5, 12), (12, 30))
    return {
        "c:level": np.log(max(curve[0], 0.05)),
        "c:slope": curve[1],
        "c:curvature": curve[2],
        **{f"c:structure {a}-{b}": np.log((smooth[a] - smooth[b]).std() + 1e-3) for a, b in steps},
    }


def describe(sample: Sample, model: np.ndarray) -> tuple[list[str], np.ndarray]:
    """Names (F,) and values (N, S, F) of the features of the S pieces of every spectrum; `model` is the fit (N, P)."""
    rows = []
    for flux, ivar, fit in zip(sample["flux"], sample["ivar"], model, strict=True):
        for start in range(0, flux.shape[0], SEGMENT):
            part = slice(start, start + SEGMENT)
            good = ivar[part] > 0
            good = good if good.sum() > 20 else np.ones_like(good)
            error = np.where(ivar[part] > 0, ivar[part], np.inf)[good] ** -0.5
            error = np.where(error > 0, error, 1.0)
            pull = (flux - fit)[part][good] / error
            rows.append(pull_features(pull) | error_features(error, pull) | continuum_features(flux[part][good], error))
    values = np.array([list(row.values()) for row in rows])
    return list(rows[0]), values.reshape(len(sample["z"]), -1, values.shape[1])


def auc(score: np.ndarray, label: np.ndarray) -> float:
    """Area under the ROC curve, ties counted half."""
    rank = stats.rankdata(score)
    positive = int(label.sum())
    return float((rank[label].sum() - positive * (positive + 1) / 2) / (positive * (label.size - positive)))


def make_classifiers() -> dict[str, Any]:
    from sklearn.ensemble import GradientBoostingClassifier
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    return {
        "logistic": make_pipeline(StandardScaler(), LogisticRegression(C=0.05, max_iter=2000)),
        "boosting": GradientBoostingClassifier(n_estimators=80, max_depth=3, subsample=0.6, random_state=0),
    }


def held_out(classifier: Any, x: np.ndarray, label: np.ndarray, group: np.ndarray) -> np.ndarray:
    """Decision value (n,) of every piece from a classifier that saw no piece of its group; classes weigh the same."""
    score = np.zeros(len(x))
    weight = np.where(label, 1 / label.mean(), 1 / (1 - label.mean()))
    last = [f"{name}__" for name in getattr(classifier, "named_steps", {})][-1:]  # of a pipeline
    name = "".join(last) + "sample_weight"
    for value in np.unique(group):
        train = group != value
        classifier.fit(x[train], label[train], **{name: weight[train]})
        score[~train] = classifier.decision_function(x[~train])
    return score


def compare(first: np.ndarray, second: np.ndarray, columns: np.ndarray) -> dict[str, Any]:
    """AUC of telling `first` (N, S, F) from its companions `second` (N, K, S, F) by the features `columns`."""
    num, per, pieces, _ = second.shape
    both = np.concatenate([first[:, None], second], axis=1)[..., columns]  # (N, 1 + K, S, f)
    label = np.zeros((num, 1 + per, pieces), bool)
    label[:, 0] = True
    group = np.broadcast_to(np.arange(num)[:, None, None], label.shape)
    place = np.broadcast_to(np.arange(pieces)[None, None], label.shape)
    x = np.concatenate([both.reshape(label.size, -1), place.reshape(-1, 1)], axis=1)
    out = {}
    for name, classifier in make_classifiers().items():
        score = held_out(classifier, x, label.ravel(), group.ravel()).reshape(label.shape)
        by_spectrum = auc(score.mean(2).ravel(), label[:, :, 0].ravel())
        out[name] = {"piece": auc(score.ravel(), label.ravel()), "spectrum": by_spectrum}
        out[name]["error"] = bootstrap(score, label)
    return out


def bootstrap(score: np.ndarray, label: np.ndarray, number: int = 100) -> float:
    """Standard deviation of the AUC by piece over resampled galaxies (axis 0, with their mocks)."""
    rng = np.random.default_rng(0)
    rows = rng.integers(0, len(score), (number, len(score)))
    return float(np.std([auc(score[r].ravel(), label[r].ravel()) for r in rows]))


def telltales(first: np.ndarray, second: np.ndarray, names: list[str]) -> list[dict[str, Any]]:
    """Features by how well each alone tells a galaxy from its companions, in units of the scatter of pieces."""
    scatter = second.reshape(-1, second.shape[-1]).std(axis=0) + 1e-9
    difference = ((first[:, None] - second) / scatter).mean(axis=(1, 2))  # (N, F)
    by_piece = ((first[:, None] - second) / scatter).mean(axis=(0, 1))  # (S, F)
    error = difference.std(axis=0, ddof=1) / np.sqrt(len(difference))
    records = [
        {
            "feature": name,
            "real": float(first[..., i].mean()),
            "mock": float(second[..., i].mean()),
            "shift": float(difference[:, i].mean()),
            "sigma": float(difference[:, i].mean() / (error[i] + 1e-9)),
            "by piece": [round(float(value), 2) for value in by_piece[:, i]],
        }
        for i, name in enumerate(names)
    ]
    return sorted(records, key=lambda record: -abs(record["shift"]) * min(abs(record["sigma"]), 4))


def plant(mocks: Sample, flaw: str) -> Sample:
    """The mocks with a flaw that must be noticed."""
    rng = np.random.default_rng(1)
    error = np.where(mocks["ivar"] > 0, np.where(mocks["ivar"] > 0, mocks["ivar"], 1) ** -0.5, 0)
    white = rng.standard_normal(mocks["flux"].shape)
    if flaw == "white noise, right errors":
        flux = mocks["continuum"] + error * white
    elif flaw == "smoothed noise":
        flux = mocks["continuum"] + error * ndimage.uniform_filter1d(white, 2, axis=1) * np.sqrt(2)
    else:
        assert flaw == "errors 1.3 x too small"
        return {**mocks, "ivar": mocks["ivar"] * 1.3**2}
    return {**mocks, "flux": np.where(mocks["ivar"] > 0, flux, 0).astype(np.float32)}


def draw(loglam: np.ndarray, spectra: list[Sample], titles: list[str], path: pathlib.Path) -> None:
    """Spectra (flux in grey, error in orange) two to a row on the same axes."""
    figure, axes = panels(len(spectra) // 2, 2, width=6.0, height=1.5, sharex=True)
    wave = grid.wave(loglam)
    for axis, one, title, pair in zip(axes.ravel(), spectra, titles, np.arange(len(spectra)) // 2, strict=True):
        mates = spectra[2 * pair : 2 * pair + 2]
        top = max(np.percentile(mate["flux"], 99.6) for mate in mates)
        seen = one["ivar"] > 0
        axis.plot(wave, np.where(seen, one["flux"], np.nan), color="0.25", linewidth=0.5)
        error = np.where(seen, np.where(seen, one["ivar"], 1) ** -0.5, np.nan)
        axis.plot(wave, error, color="#D55E00", linewidth=0.6)
        axis.set(xlim=(3800, 5000), ylim=(-0.6 * top, 1.25 * top))
        axis.set_title(title, fontsize=8, loc="left", pad=2)
    figure.supxlabel("vacuum wavelength (Å)", fontsize=9)
    figure.supylabel("flux (10⁻¹⁷ erg/s/cm²/Å)", fontsize=9)
    save_small(figure, path)


def save_small(figure: Any, path: pathlib.Path) -> None:
    """A PNG of few colours: noise compresses badly, and this looks the same."""
    from PIL import Image

    buffer = io.BytesIO()
    figure.savefig(buffer, dpi=100)
    with replacing(path) as temporary:
        Image.open(buffer).convert("RGB").quantize(48, dither=Image.Dither.NONE).save(temporary, optimize=True)


def draw_both(loglam: np.ndarray, real: Sample, mocks: Sample, rows: np.ndarray, out: pathlib.Path) -> str:
    """The labelled and the shuffled figure; returns the key of the shuffled one."""
    order = np.argsort(real["z"])[np.linspace(0, len(real["z"]) - 1, SHOWN).round().astype(int)]
    rng = np.random.default_rng(SEED)
    spectra, titles, blind, key = [], [], [], []
    real_level, level = (np.log(np.median(sample["ivar"], axis=1)) for sample in (real, mocks))
    for i in order:
        like = rows[i, np.argmin(np.abs(level[rows[i]] - real_level[i]))]  # also in its errors
        pair = [take(real, i), take(mocks, like)]
        spectra += pair
        titles += [f"{what}, z {one['z']:.3f}" for what, one in zip(("real", "mock"), pair, strict=True)]
        flip = bool(rng.integers(2))
        blind += pair[::-1] if flip else pair
        key.append("right" if flip else "left")
    draw(loglam, spectra, titles, out / "realism.png")
    draw(loglam, blind, [f"{i // 2 + 1}{'ab'[i % 2]}" for i in range(len(blind))], out / "realism_blind.png")
    return ", ".join(f"{i + 1} {side}" for i, side in enumerate(key))


def run(config: Any, data: pathlib.Path, out: pathlib.Path) -> dict[str, Any]:
    """Everything that is printed, as a dictionary."""
    loglam = grid.window(*config.data.window)
    real, fit = read_galaxies(data, config, loglam), make_fit(config, loglam)

    def features(sample: Sample, shape: tuple[int, ...]) -> np.ndarray:
        model = np.asarray(fit(sample["flux"], sample["ivar"], sample["z"]))
        return describe(sample, model)[1].reshape(*shape, len(loglam) // SEGMENT, -1)

    names, true = describe(real, np.asarray(fit(real["flux"], real["ivar"], real["z"])))
    num = len(real["z"])
    mocks = draw_mocks(config, 1.0, 1)
    rows = match(real, mocks, PER_GALAXY + 1)
    flat = rows[:, 1:].ravel()
    mock = features(take(mocks, flat), (num, PER_GALAXY))
    twin = features(take(mocks, rows[:, 0]), (num,))  # mocks in the place of the real galaxies
    clean_mocks = draw_mocks(config, 0.0, 2)
    clean = features(take(clean_mocks, match(real, clean_mocks, PER_GALAXY).ravel()), (num, PER_GALAXY))
    result: dict[str, Any] = {"galaxies": num, "mocks per galaxy": PER_GALAXY, "pieces": true.shape[1], "auc": {}}
    for view, groups in VIEWS.items():
        columns = np.array([name.startswith(groups) for name in names])
        result["auc"][view] = {
            "real vs mock": compare(true, mock, columns),
            "real vs mock, dirt 0": compare(true, clean, columns),
            "mock vs mock (chance)": compare(twin, mock, columns),
        }
    result["planted"] = {}
    for flaw in ("white noise, right errors", "smoothed noise", "errors 1.3 x too small"):
        flawed = features(plant(take(mocks, flat), flaw), (num, PER_GALAXY))
        result["planted"][flaw] = compare(twin, flawed, np.array([not name.startswith("c:") for name in names]))
    result["telltales"] = telltales(true, mock, names)
    result["blind key: the real one is"] = draw_both(loglam, real, mocks, rows, out)
    return result


def print_scores(label: str, scores: dict[str, dict[str, float]]) -> None:
    """One line: the AUC of each classifier, by piece with its error and by spectrum."""
    cells = [f"{n}: {s['piece']:.3f} +- {s['error']:.3f}, {s['spectrum']:.3f}" for n, s in scores.items()]
    print(f"  {label:26s}{'   '.join(cells)}")


def show(result: dict[str, Any]) -> None:
    """Prints the scores and the features that give mocks away."""
    sizes = (result["galaxies"], result["mocks per galaxy"], result["pieces"], SEGMENT)
    print("{} real galaxies, {} mocks each, {} pieces of {} pixels".format(*sizes))
    print("AUC: by piece with its error, by spectrum")
    for view, cases in result["auc"].items():
        print(view)
        for case, scores in cases.items():
            print_scores(case, scores)
    print("planted flaws: mocks as they are vs mocks with a flaw, continuum removed")
    for flaw, scores in result["planted"].items():
        print_scores(flaw, scores)
    print("what gives mocks away (shift in units of the scatter of pieces; its significance; by piece, blue to red)")
    for record in result["telltales"][:16]:
        means = f"real {record['real']:7.3f} mock {record['mock']:7.3f}"
        shift = f"shift {record['shift']:+.2f} ({record['sigma']:+.1f} sigma)"
        print(f"  {record['feature']:18s} {means} {shift}  {record['by piece']}")
    print("blind figure, the real one is:", result["blind key: the real one is"])


def main() -> None:
    parser = common.real_data_parser(__doc__)
    args = parser.parse_args()
    data, out = common.real_data_folders(args)
    enable_cache()
    result = run(lya_config.get_config(), data, out)
    show(result)
    write_text(out / "realism.json", json.dumps(result, indent=1))
    print(f"written: {out}/realism.json, realism.png, realism_blind.png")


if __name__ == "__main__":
    main()
