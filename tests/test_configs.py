"""Every config file and variant: it loads, keeps the keys and kinds of the default, and its smoke variant runs."""

import importlib
import json
import pathlib

import ml_collections
import numpy as np
import pytest

ROOT = pathlib.Path(__file__).parents[1]
SYSTEMS = sorted(p.stem for p in (ROOT / "configs").glob("*.py") if "def get_config(" in p.read_text())
SCORE_COLUMNS = {"file", "row", "survey", "plate", "mjd", "fiberid", "ra", "dec", "z", "class", "selected", "score"}
SCORE_COLUMNS |= {"wave", "snr", "status"}
PAIRS = [(s, v) for s in SYSTEMS for v in importlib.import_module(f"configs.{s}").VARIANTS]


def get_config(system: str, variant: str) -> ml_collections.ConfigDict:
    return importlib.import_module(f"configs.{system}").get_config(variant)


def leaves(config: ml_collections.ConfigDict, prefix: str = "") -> dict[str, object]:
    """Dotted key -> value."""
    flat = {}
    for key, value in config.items():
        is_table = isinstance(value, ml_collections.ConfigDict)
        flat.update(leaves(value, f"{prefix}{key}.") if is_table else {prefix + key: value})
    return flat


def test_every_system_has_the_three_sizes():
    assert SYSTEMS
    for system in SYSTEMS:
        assert {"default", "demo", "smoke"} <= {v for s, v in PAIRS if s == system}


@pytest.mark.parametrize(("system", "variant"), PAIRS)
def test_variant_changes_values_never_keys_or_kinds(system, variant):
    default, config = leaves(get_config(system, "default")), leaves(get_config(system, variant))
    assert {k: type(v) for k, v in config.items()} == {k: type(v) for k, v in default.items()}
    assert (config["system"], config["variant"]) == (system, variant)
    assert {type(v) for v in config.values()} <= {int, float, str, bool, tuple}
    json.dumps(config)  # it is stored in the checkpoint as JSON


@pytest.mark.parametrize(("system", "variant"), PAIRS)
def test_numbers_make_sense(system, variant):
    config = get_config(system, variant)
    for count in ("steps", "batch_size", "log_every", "eval_every", "checkpoint_every"):
        assert config.train[count] > 0, count
    for count in ("batch_size", "readers", "queue", "shard_rows") if "search" in config else ():
        assert config.search[count] > 0, count
    assert config.train.best_mode in ("min", "max")
    assert 0 <= config.optim.warmup_steps < config.train.steps
    assert config.optim.learning_rate > 0
    assert all(0 < rate < 1 for rate in config.evaluate.get("fpr", ()))
    if "search" in config:
        assert 0 < config.search.threshold < 1
        (low, *_, high), window = config.inject.edges.wave, config.data.window
        assert low <= window[0] + 1 and window[1] <= high  # Angstrom; else lines are injected that no cell counts


@pytest.mark.parametrize(("system", "variant"), PAIRS)
def test_locked_config_names_the_key_that_was_meant(system, variant):
    config = get_config(system, variant).lock()
    with pytest.raises(AttributeError, match=r"Did you mean.*batch_size"):
        config.train.batchsize = 1
    with pytest.raises(TypeError):
        config.train.steps = "many"


@pytest.mark.parametrize("system", SYSTEMS)
def test_variants_differ(system):
    configs = {v: leaves(get_config(system, v)) for s, v in PAIRS if s == system}
    for config in configs.values():
        del config["variant"]
    pairs = [(a, b) for a in configs for b in configs if a < b and configs[a] == configs[b]]
    assert pairs == []


@pytest.mark.parametrize("system", SYSTEMS)
def test_unknown_variant_is_told_the_known_ones(system):
    with pytest.raises(ValueError, match=r"(?s)demos.*demo.*smoke"):
        get_config(system, "demos")


@pytest.mark.parametrize("system", ("lya", "mgii"))
def test_smoke_variant_runs_from_training_to_scores(system, tmp_path):
    """train -> evaluate -> mock plate -> search: every file the next step and the user needs is there."""
    import pyarrow.parquet

    from lensjax import modes

    config = get_config(system, "smoke").lock()
    assert config.train.steps < 20, "smoke means seconds"
    for mode in ("train", "evaluate", "mock"):
        modes.MODES[mode](config, tmp_path)
    plates = list((tmp_path / "mock").glob("spPlate-*.fits"))
    assert plates
    config.search.input = str(tmp_path / "mock")
    modes.MODES["search"](config, tmp_path)

    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert max(line["step"] for line in lines) == config.train.steps
    for name in ("config.json", "evaluation.json"):
        assert json.loads((tmp_path / name).read_text())
    scores = pyarrow.parquet.read_table(tmp_path / "scores.parquet").to_pydict()
    assert len(scores["file"]) == sum(number_of_fibers(p) for p in plates)
    assert SCORE_COLUMNS <= set(scores)
    score = np.array([s for s, chosen in zip(scores["score"], scores["selected"], strict=True) if chosen], float)
    assert score.size
    assert np.all((score >= 0) & (score <= 1))


def test_ssl_smoke_variant_runs_from_training_to_ranking(tmp_path):
    """train -> embed -> neighbours -> probe, on mocks."""
    import pyarrow.parquet

    from lensjax import modes

    config = get_config("ssl", "smoke").lock()
    assert config.train.steps < 20, "smoke means seconds"
    for mode in ("train", "embed", "neighbours", "probe"):
        modes.MODES[mode](config, tmp_path)
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert {"loss", "accuracy", "alignment", "uniformity", "rank", "std"} <= set(lines[0])
    assert {"roc_auc", "enrichment", "rank"} <= set(next(line for line in lines if line["split"] == "test"))
    objects = pyarrow.parquet.read_table(tmp_path / "embeddings" / "objects.parquet").to_pydict()
    assert len(objects["row"]) == config.embed.num and {"label", "kind", "mag_r", "status"} <= set(objects)
    with np.load(tmp_path / "neighbours.npz") as found:
        assert found["neighbours"].shape == (config.embed.num, config.neighbours.k)
    ranked = pyarrow.parquet.read_table(tmp_path / "probe" / "ranked.parquet").to_pydict()
    assert len(ranked["score"]) == config.embed.num


def test_lens_smoke_variant_runs_from_training_to_a_catalogue(tmp_path):
    """train -> evaluate -> embed -> probe -> catalogue, on mocks; every mock is scored."""
    from lensjax import modes

    config = get_config("lens", "smoke").lock()
    assert config.train.steps < 20, "smoke means seconds"
    for mode in ("train", "evaluate", "embed", "probe", "catalogue"):
        modes.run(mode, config, tmp_path)
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert {"roc_auc", "average_precision"} <= set(next(line for line in lines if line["split"] == "test"))
    summary = json.loads((tmp_path / "evaluation.json").read_text())
    assert summary["lenses"] + summary["others"] == config.evaluate.num and summary["at_fpr"]["0.0001"] is None
    assert "lens" in summary["taken_for_lenses"] and set(summary["survey"]["precision"]) == {"10", "100", "1000"}
    assert all((tmp_path / f"ranked.{suffix}").stat().st_size for suffix in ("fits", "ecsv", "vot", "parquet"))


def number_of_fibers(plate: pathlib.Path) -> int:
    from astropy.io import fits

    return fits.getheader(plate)["NAXIS2"]
