"""Evaluation: the oracle against its closed form, the numbers against counting by hand, the files of a small run."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn import metrics as oracle_metrics

from configs import lya as lya_configs
from lensjax import evaluate
from lensjax.core import checkpoint, errors
from lensjax.core.task import Task
from lensjax.evaluate import figures, scorers, summary
from lensjax.physics import profiles

PIXELS = 1192
FIGURES = ("roc.png", "completeness_snr.png", "completeness_map.png", "score_hist.png")


def line_example(centre=400.3, flux=30.0):
    """A noiseless spectrum with a skew line on a continuum and an artefact, both known."""
    x = np.arange(PIXELS)
    profile = np.asarray(profiles.pixel_profile(PIXELS, centre, 2.5, 3.0))
    sigma = 0.3 + 0.2 * np.cos(x / 90.0)
    example = {
        "continuum": 2 + np.sin(x / 50.0),
        "artefact": 5.0 * (x == 700),
        "sigma": sigma,
        "profile": profile,
        "ivar": np.where((x > 395) & (x < 398), 0.0, 3.0),  # the reported error is wrong, two pixels are missing
    }
    example["flux"] = example["continuum"] + example["artefact"] + flux * profile
    return {name: jnp.asarray(values, jnp.float32) for name, values in example.items()}, flux


def test_oracle_reaches_the_signal_to_noise_of_the_true_profile():
    example, flux = line_example()
    snr = np.asarray(scorers.oracle_snr(example))
    weight = np.where(example["ivar"] > 0, example["sigma"] ** -2.0, 0.0)
    expected = flux * np.sqrt(np.sum(np.asarray(example["profile"]) ** 2 * weight))
    assert snr.argmax() == np.asarray(example["profile"]).argmax()
    np.testing.assert_allclose(snr.max(), expected, rtol=1e-3)  # the taps hold all but the far tail
    assert np.abs(snr[600:]).max() < 0.02  # the artefact is known, so it is no line


def test_oracle_is_a_matched_filter_at_every_pixel():
    example, _ = line_example()
    key = jax.random.key(0)
    example["flux"] += example["sigma"] * jax.random.normal(key, (PIXELS,))
    snr = np.asarray(scorers.oracle_snr(example))
    data = np.asarray(example["flux"] - example["continuum"] - example["artefact"], np.float64)
    weight = np.where(example["ivar"] > 0, np.asarray(example["sigma"], np.float64) ** -2, 0)
    profile = np.asarray(example["profile"], np.float64)
    centre = profile.argmax()
    for p in (0, 7, 396, 650, PIXELS - 1):
        kernel = {p + j: profile[centre + j] for j in range(-20, 21) if 0 <= p + j < PIXELS}
        numerator = sum(k * data[i] * weight[i] for i, k in kernel.items())
        norm = sum(k**2 * weight[i] for i, k in kernel.items())
        np.testing.assert_allclose(snr[p], numerator / np.sqrt(norm), rtol=1e-3, atol=1e-3)


def test_oracle_sees_absorption_as_it_sees_emission():
    example, _ = line_example()
    rest = example["continuum"] + example["artefact"]
    dark = {**example, "flux": 2 * rest - example["flux"], "profile": -example["profile"]}
    np.testing.assert_allclose(scorers.oracle_snr(dark), scorers.oracle_snr(example), atol=1e-3)


def test_oracle_gives_no_line_where_every_pixel_is_missing():
    example, _ = line_example()
    example["ivar"] = jnp.zeros(PIXELS)
    assert not np.asarray(scorers.oracle_snr(example)).any()


def scored_by_hand():
    """Ten lines and ten spectra without, distinct logits; two false positives above 0, three lines below."""
    logit = np.array([-3, -2, -1, 1, 2, 3, 4, 5, 6, 7, -9, -8, -7, -6, -5, -4, -3.5, -2.5, 0.5, 2.5], float)
    label = np.repeat([1.0, 0.0], 10)
    snr = np.where(label > 0, np.tile(np.arange(4.5, 14.5), 2), 0.0)
    true_wave = np.where(label > 0, 4000.0, 0.0)
    shift = np.where(np.arange(20) == 9, 10, 2)  # the last line is placed 10 pixels off, the others 2
    return {"logit": logit, "label": label, "snr": snr, "true_wave": true_wave, "wave": 4000.0 * 10 ** (1e-4 * shift)}


def test_numbers_at_the_threshold_are_those_counted_by_hand():
    out = summary.at_threshold(scored_by_hand(), 0.0)
    values = {name: value[0] for name, value in out.items()}
    assert values == pytest.approx(
        {"purity": 7 / 9, "completeness": 0.7, "accuracy": 0.75, "false_positives_per_100000": 2e4}
    )
    assert all(low < value < high for value, low, high in out.values())


def test_completeness_at_a_false_positive_rate_is_that_counted_by_hand():
    out = summary.at_fpr(
        scored_by_hand(), 0.1, (3800.0, 5000.0)
    )  # one of ten may pass: the cut is the second highest, 0.5
    assert out["cut"] == 0.5 and out["false_positives"] == 1
    assert out["completeness"][0] == pytest.approx(0.7)
    assert out["completeness_faint"][0] == pytest.approx(1 / 4)  # S/N 4.5, 5.5, 6.5 missed, 7.5 found
    assert out["completeness_bright"][0] == 1.0
    assert out["cut_uncertainty"] == pytest.approx([0.5, 0.9])  # one false positive, give or take one
    by_snr = out["by_snr"]
    assert by_snr["completeness"][:4] == [0, 0, 0, 1] and by_snr["completeness"][-1] is None
    cells = np.array(out["by_snr_wave"]["total"])
    assert cells.sum() == 10 and cells[:, 1].sum() == 10  # all at 4000 A, the second column


def test_position_counts_the_bright_lines_that_were_found():
    out = summary.position(scored_by_hand(), 0.0)
    assert out["number"] == 6  # S/N 8.5 to 13.5
    assert out["within_3_pixels"][0] == pytest.approx(5 / 6)
    assert out["rms_pixels"] == pytest.approx(2.0, abs=1e-6)


def random_scored(number=4000):
    rng = np.random.default_rng(0)
    label = (rng.random(number) < 0.4).astype(float)
    snr = np.where(label > 0, rng.uniform(4, 20, number), 0.0)
    wave = rng.uniform(3800, 5000, number)
    return {"logit": rng.normal(snr / 4, 1.0), "label": label, "snr": snr, "true_wave": label * wave, "wave": wave}


def test_logits_twice_too_sure_have_a_temperature_of_two():
    x = np.random.default_rng(1).normal(size=20_000)
    label = np.random.default_rng(2).random(20_000) < 1 / (1 + np.exp(-x))
    found = evaluate.calibrate({"logit": 2 * x, "label": label.astype(float)})
    assert found["temperature"] == pytest.approx(2.0, abs=0.15)
    assert found["error_at_temperature"] < 0.02 < 0.05 < found["error"]


def test_areas_agree_with_scikit_learn_and_depend_on_the_order_alone():
    scored = random_scored()
    out = summary.summarise(scored, (0.01, 0.1), 1.0)
    assert out["roc_auc"] == pytest.approx(oracle_metrics.roc_auc_score(scored["label"], scored["logit"]))
    assert out["average_precision"] == pytest.approx(
        oracle_metrics.average_precision_score(scored["label"], scored["logit"])
    )
    stretched = summary.summarise({**scored, "logit": np.exp(scored["logit"])}, (0.01, 0.1), np.exp(1.0))
    for name in ("roc_auc", "at_threshold", "position", "roc"):
        assert stretched[name] == out[name]
    for fpr in ("0.01", "0.1"):
        assert stretched["at_fpr"][fpr]["completeness"] == out["at_fpr"][fpr]["completeness"]
        assert out["at_fpr"][fpr]["false_positive_rate"][0] <= float(fpr)
    assert out["roc"]["completeness"] == sorted(out["roc"]["completeness"]) and out["roc"]["completeness"][-1] == 1.0


def fake_simulate(key):
    label = jax.random.bernoulli(key).astype(jnp.float32)
    return {"label": label, "snr": 9.0 * label, "wave": 4100.0 * label, "hint": jax.random.normal(key) + label}


def fake_scorer(name, sign):
    return lambda batch: {name: {"logit": sign * batch["hint"], "wave": batch["wave"]}}


def test_every_scorer_sees_the_same_mocks_and_more_of_them_change_none(monkeypatch):
    monkeypatch.setattr(evaluate, "make_simulator", lambda config: fake_simulate)
    monkeypatch.setattr(evaluate, "BATCH", 16)
    config = lya_configs.get_config("smoke")
    both = [fake_scorer("a", 1), fake_scorer("b", -1)]
    few, many = (evaluate.score_mocks(config, both, number, 1) for number in (21, 50))
    assert few["a"]["logit"].shape == (21,)
    np.testing.assert_array_equal(few["a"]["logit"], -few["b"]["logit"])
    np.testing.assert_array_equal(few["a"]["logit"], many["a"]["logit"][:21])
    assert len(np.unique(many["a"]["logit"])) == 50
    others = [evaluate.score_mocks(config, both, 21, 2)]
    config.seed += 1  # that of a training
    np.testing.assert_array_equal(evaluate.score_mocks(config, both, 21, 1)["a"]["logit"], few["a"]["logit"])
    config.evaluate.seed = 4711
    others.append(evaluate.score_mocks(config, both, 21, 1))
    config.seed = 4711
    others.append(evaluate.score_mocks(config, both, 21, 1))
    logits = [scored["a"]["logit"] for scored in (few, *others)]
    assert len(np.unique(logits)) == 4 * 21


def test_mocks_differ_in_dirt_alone_and_leave_the_config_as_it_was():
    config = lya_configs.get_config()
    before = config.to_json()
    clean, dirty = (evaluate.mock_config(config, dirt) for dirt in (0.0, 1.0))
    assert (clean.sim.dirt, dirty.sim.dirt) == (0.0, 1.0)
    assert clean.sim.line_law == "snr" and tuple(clean.sim.snr_range) == (4.0, 20.0)
    with clean.unlocked():
        clean.sim.dirt = 1.0
    assert clean == dirty and config.to_json() == before


def test_figures_are_drawn_from_the_json_alone_even_with_empty_bins(tmp_path):
    scored = random_scored(60)
    part = summary.summarise(scored, (0.01, 0.1), 0.0)
    result = {name: dict.fromkeys(figures.STYLES, part) for name in figures.SETS}
    figures.draw_all(json.loads(json.dumps(result, allow_nan=False)), tmp_path)
    for draw in (figures.roc, figures.completeness_snr):  # the legend hides no curve
        figure = draw(result)
        assert len(figure.legends[0].get_texts()) == len(figures.STYLES) and not figure.axes[0].get_legend()
    from matplotlib import image

    for name in FIGURES:
        pixels = image.imread(tmp_path / name)
        assert pixels.shape[1] > 1000 and pixels.std() > 0.05
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(FIGURES)


def white_noise_spectrum(key):
    """A flat galaxy in white noise of unit variance with, or without, a Gaussian line of S/N 12."""
    kn, kl, kp = jax.random.split(key, 3)
    label = jax.random.bernoulli(kl).astype(jnp.float32)
    centre = jax.random.uniform(kp, minval=300.0, maxval=800.0)
    profile = profiles.pixel_profile(PIXELS, centre, 2.2, 0.0)
    line = label * 12.0 * profile / jnp.sqrt(jnp.sum(profile**2))
    ones, zeros = jnp.ones(PIXELS), jnp.zeros(PIXELS)
    truth = {"label": label, "snr": 12.0 * label, "wave": label * 10 ** (3.5798 + 1e-4 * centre)}
    oracle = {"continuum": ones, "artefact": zeros, "sigma": ones, "profile": profile}
    observed = {"flux": ones + line + jax.random.normal(kn, (PIXELS,)), "ivar": ones, "wdisp": ones, "z": 0.5}
    return {**observed, **truth, **oracle}


def brightest_pixel_task(config):
    """A stand-in for a network: the logit is the brightest pixel less its one parameter."""

    def predict(params, model_state, batch):
        wave = 10 ** (3.5798 + 1e-4 * batch["flux"].argmax(1).astype(jnp.float32))
        return {"logit": batch["flux"].max(1) - params["floor"], "wave": wave}

    return Task(None, None, predict)


def test_a_small_run_writes_its_files_and_one_line(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(evaluate, "make_simulator", lambda config: white_noise_spectrum)
    monkeypatch.setattr(scorers, "make_task", brightest_pixel_task)
    config = lya_configs.get_config("smoke")
    config.evaluate.num = 100
    checkpoint.save_weights(tmp_path, {"floor": np.float32(4.5)}, {}, config)
    result = evaluate.evaluate(config, tmp_path)

    assert json.loads((tmp_path / "evaluation.json").read_text()) == json.loads(json.dumps(result))
    assert all((tmp_path / name).stat().st_size > 10_000 for name in FIGURES)
    out = capsys.readouterr().out
    assert out.count("\n") == 1 and "completeness" in out
    assert result["own"]["mocks"]["lines"] + result["own"]["mocks"]["without"] == 100
    for name in ("clean", "dirty"):
        assert result[name]["mocks"]["lines"] + result[name]["mocks"]["without"] == 200
        for scorer in ("oracle", "practical", "traditional"):
            found = result[name][scorer]
            # S/N 12, cut at 6, white noise: all are found, but those under the filters' masks
            assert found["at_threshold"]["completeness"][0] >= (1.0 if scorer == "oracle" else 0.7)
            assert found["at_threshold"]["false_positives_per_100000"][0] == 0.0
            assert found["position"]["within_3_pixels"][0] == 1.0
        assert result[name]["network"]["roc_auc"] > 0.9


def test_rates_that_the_mocks_cannot_tell_are_left_out_and_said(capsys):
    assert evaluate.tellable((0.01, 0.001), 1000) == (0.01, 0.001)
    assert evaluate.tellable((0.01, 0.001), 500) == (0.01,) and evaluate.tellable((0.01,), 50) == (0.02,)
    said = capsys.readouterr().err
    assert "500 mocks without a line cannot tell a false-positive rate of 0.001: raise config.evaluate.num" in said


def test_mocks_of_one_kind_get_a_sentence():
    evaluate.check_classes({"lines": 1, "without": 1})
    with pytest.raises(errors.UserError, match=r"2 of the mocks have a line and 0 have none.*config\.evaluate\.num"):
        evaluate.check_classes({"lines": 2, "without": 0})


def test_a_workdir_without_a_checkpoint_gets_a_sentence(tmp_path):
    with pytest.raises(errors.UserError, match="no weights at"):
        evaluate.evaluate(lya_configs.get_config("smoke"), tmp_path)
