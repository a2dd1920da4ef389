"""The loop: interrupted equals uninterrupted, bit for bit; what goes wrong is said; the files are there."""

import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import time

import jax
import numpy as np
import pytest
from jax.experimental.compilation_cache import compilation_cache

from configs import lya
from lensjax.core import checkpoint, settings
from lensjax.core.errors import UserError
from lensjax.core.journal import read_rows
from lensjax.data.batches import Batches, from_arrays, make_batches
from lensjax.tasks import make_task
from lensjax.train import make_warm, train
from tests.tiny import PIXELS, simulate, tiny_config, tiny_metrics, tiny_task

ROOT = pathlib.Path(__file__).parents[1]
ONE = jax.devices()[:1]


@pytest.fixture(scope="module", autouse=True)
def compile_cache(tmp_path_factory):
    """Every train() compiles anew; here from one cache, which is also what a resumed run meets."""
    folder = tmp_path_factory.mktemp("xla")
    settings = {"jax_compilation_cache_dir": str(folder), "jax_persistent_cache_min_compile_time_secs": 0.0}
    before = {name: getattr(jax.config, name) for name in settings}
    for name, value in settings.items():
        jax.config.update(name, value)
    compilation_cache.reset_cache()
    yield folder
    for name, value in before.items():
        jax.config.update(name, value)
    compilation_cache.reset_cache()


def _train(workdir, config=None, batches=None, task=None, devices=ONE):
    config = config or tiny_config()
    batches = batches or make_batches(config, simulate)
    return train(config, workdir, task or tiny_task(), batches, tiny_metrics, devices)


def test_a_best_metric_that_is_none_is_told_once(tmp_path, capsys):
    _train(tmp_path / "typo", tiny_config(best_metric="acuracy"))
    assert capsys.readouterr().err.count("the tests tell no acuracy, but accuracy, loss: the newest checkpoint") == 1
    _train(tmp_path / "right", tiny_config(best_metric="accuracy"))
    assert "the tests tell no" not in capsys.readouterr().err


def _weights(workdir):
    return [np.asarray(x) for x in jax.tree.leaves(checkpoint.restore_for_inference(workdir)[1:])]


def _assert_same_run(one, two):
    assert (one / "metrics.jsonl").read_text() == (two / "metrics.jsonl").read_text()
    for x, y in zip(_weights(one), _weights(two), strict=True):
        np.testing.assert_array_equal(x, y)
    kept = [sorted(p.name for p in (w / "checkpoints").iterdir() if p.name.isdigit()) for w in (one, two)]
    assert kept[0] == kept[1]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("undisturbed")
    return workdir, _train(workdir)


def _broken(batches: Batches, at: int, error: type[BaseException]) -> Batches:
    """Batches that raise once step `at` is asked for."""

    def get(step):
        if step == at:
            raise error
        return batches.train(step)

    return batches._replace(train=get)


def test_a_run_leaves_its_files_and_learns(undisturbed):
    workdir, final = undisturbed
    assert {"config.json", "checkpoints", "metrics.jsonl", "curves.png"} <= {p.name for p in workdir.iterdir()}
    rows = read_rows(workdir / "metrics.jsonl")
    assert [(row["step"], row["split"]) for row in rows] == [
        (3, "train"), (6, "train"), (6, "test"), (9, "train"), (12, "train"), (12, "test"),
    ]  # fmt: skip
    assert final == rows[-1] and final["loss"] < rows[2]["loss"]
    assert rows[-1]["epoch"] == 12 * 8 / 64
    assert {"loss", "grad_norm", "level"} <= rows[0].keys()


def test_a_row_is_the_mean_of_its_steps(undisturbed, tmp_path):
    _train(tmp_path, tiny_config(log_every=1))
    each = [row["loss"] for row in read_rows(tmp_path / "metrics.jsonl") if row["split"] == "train"]
    rows = [row["loss"] for row in read_rows(undisturbed[0] / "metrics.jsonl") if row["split"] == "train"]
    np.testing.assert_allclose(np.mean(np.reshape(each, (4, 3)), axis=1), rows, rtol=1e-12)


@pytest.mark.parametrize("at", [2, 5, 11])  # before any checkpoint; off the log steps; in the last step
def test_a_broken_run_goes_on_as_if_nothing_had_been(undisturbed, tmp_path, at):
    config = tiny_config()
    with pytest.raises(RuntimeError):
        _train(tmp_path, config, _broken(make_batches(config, simulate), at, RuntimeError))
    final = _train(tmp_path, config)
    assert final == undisturbed[1]
    _assert_same_run(tmp_path, undisturbed[0])


def test_a_finished_run_is_left_alone(undisturbed):
    workdir, final = undisturbed
    never = Batches(lambda step: pytest.fail("trained again"), lambda: iter(()), 64, 20)
    assert _train(workdir, batches=never) == final


def test_a_run_can_be_extended(tmp_path):
    _train(tmp_path)
    assert _train(tmp_path, tiny_config(steps=15))["step"] == 15


def test_another_config_is_refused(undisturbed):
    config = tiny_config()
    config.data.num_test = 21
    with pytest.raises(UserError, match=r"config\.data\.num_test = 20 where this run has 21"):
        _train(undisturbed[0], config)


def test_a_run_goes_on_with_its_own_objects_alone(tmp_path):
    one, other = (np.random.default_rng(0).normal(size=(n, PIXELS)).astype(np.float32) for n in (40, 41))
    labels = [(x[:, 0] > 0).astype(np.float32) for x in (one, other)]
    made = [
        from_arrays({"flux": x, "label": label}, {"flux": x[:4], "label": label[:4]}, 8, 0)
        for x, label in zip((one, other), labels, strict=True)
    ]
    assert made[0].identity.startswith("40 + 4 objects") and made[0].identity != made[1].identity
    settings.claim_data(tmp_path, made[1].identity)  # of a run that stopped before its first checkpoint
    _train(tmp_path, batches=made[0])
    _train(tmp_path, batches=made[0])
    with pytest.raises(UserError, match="are not those that the run in"):
        _train(tmp_path, batches=made[1])


def test_other_devices_go_on_with_a_run(undisturbed, tmp_path):
    config = tiny_config()
    with pytest.raises(RuntimeError):
        _train(tmp_path, config, _broken(make_batches(config, simulate), 8, RuntimeError), devices=jax.devices())
    final = _train(tmp_path, config, devices=jax.devices()[:2])
    assert final["loss"] == pytest.approx(undisturbed[1]["loss"], abs=1e-6)


@pytest.mark.parametrize("bad_step", [5, 10])
def test_a_loss_that_is_not_finite_names_its_step(tmp_path, bad_step):
    config = tiny_config()
    good = make_batches(config, simulate)

    def poisoned(step):
        batch = good.train(step)
        return {**batch, "flux": batch["flux"] * np.float32(np.nan if step == bad_step - 1 else 1)}

    with pytest.raises(
        UserError, match=f"loss is nan at step {bad_step}, .*newest checkpoint: step {bad_step // 4 * 4}"
    ):
        _train(tmp_path, config, good._replace(train=poisoned))
    assert all(np.isfinite(x).all() for x in _weights(tmp_path))


def test_a_signal_saves_and_says_how_to_go_on(undisturbed, tmp_path, capsys):
    config = tiny_config()
    good = make_batches(config, simulate)

    def signalled(step):
        if step == 5 and not (tmp_path / "metrics.jsonl.sent").exists():
            (tmp_path / "metrics.jsonl.sent").touch()
            os.kill(os.getpid(), signal.SIGTERM)
        return good.train(step)

    handler = signal.getsignal(signal.SIGTERM)
    with pytest.raises(SystemExit) as stop:
        _train(tmp_path, config, good._replace(train=signalled))
    assert stop.value.code == 128 + signal.SIGTERM
    assert "the same command goes on" in capsys.readouterr().err
    assert signal.getsignal(signal.SIGTERM) is handler
    assert _train(tmp_path, config) == undisturbed[1]
    assert (tmp_path / "metrics.jsonl").read_text() == (undisturbed[0] / "metrics.jsonl").read_text()


SCRIPT = """
import sys, time, jax
from lensjax.tasks import make_task
from lensjax.train import make_warm, train
from lensjax.data.batches import make_batches
from tests.tiny import simulate, tiny_config, tiny_metrics, tiny_task
config = tiny_config(steps=60)
batches = make_batches(config, simulate)
def slow(step):
    time.sleep(float(sys.argv[2]))
    return batches.train(step)
train(config, sys.argv[1], tiny_task(), batches._replace(train=slow), tiny_metrics, jax.devices()[:1])
"""


def _start(workdir, pause, cache):
    settings = {"JAX_COMPILATION_CACHE_DIR": str(cache), "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"}
    command = [sys.executable, "-c", SCRIPT, str(workdir), str(pause)]
    return subprocess.Popen(command, cwd=ROOT, stderr=subprocess.DEVNULL, env={**os.environ, **settings})


def test_kill_nine_and_again_equals_undisturbed(tmp_path, compile_cache):
    killed, quiet = tmp_path / "killed", tmp_path / "quiet"
    undisturbed, process = _start(quiet, 0, compile_cache), _start(killed, 0.05, compile_cache)
    deadline = time.monotonic() + 60
    while len(read_rows(killed / "metrics.jsonl")) < 10 and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert 10 <= len(read_rows(killed / "metrics.jsonl")) < 25, "it was to be killed half-way"
    assert _start(killed, 0, compile_cache).wait() == 0
    assert undisturbed.wait() == 0
    _assert_same_run(killed, quiet)


def test_a_run_begins_with_given_weights(undisturbed, tmp_path):
    config = tiny_config(steps=1, start=str(undisturbed[0]))
    config.optim.learning_rate = 0.0
    _train(tmp_path / "on", config)
    assert checkpoint.restore_for_inference(tmp_path / "on")[0].train.start == str(undisturbed[0])
    mine, theirs = (checkpoint.restore_for_inference(folder)[1] for folder in (tmp_path / "on", undisturbed[0]))
    jax.tree.map(np.testing.assert_array_equal, mine, theirs)
    with pytest.raises(UserError, match="no weights at"):
        _train(tmp_path / "off", tiny_config(start=str(tmp_path / "nowhere")))


def test_the_continua_of_a_run_are_its_own(tmp_path):
    config = lya.get_config("smoke")
    params, model_state, _ = make_task(config).init(jax.random.key(0))
    checkpoint.save_weights(tmp_path, params, model_state, config)
    config.train.start = str(tmp_path)
    constants = model_state["constants"]
    mine = {**model_state, "constants": {**constants, "templates": constants["templates"][:, :-50]}}
    begun = make_warm(config)(params, mine)
    assert begun[1]["constants"] is mine["constants"]
    jax.tree.map(np.testing.assert_array_equal, begun[0], params)


HOST = """
import sys, jax
from lensjax.modes import start_devices
start_devices()
from lensjax.tasks import make_task
from lensjax.train import make_warm, train
from tests.tiny import simulate, tiny_config, tiny_metrics, tiny_task
from lensjax.data.batches import make_batches
assert jax.process_count() == 2 and jax.local_device_count() == 1
config = tiny_config()
train(config, sys.argv[1], tiny_task(), make_batches(config, simulate), tiny_metrics)
"""


@pytest.mark.skipif(jax.device_count() < 2, reason="nothing to compare with on one device")
def test_two_hosts_train_as_one_with_two_devices(tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    settings = {"JAX_COORDINATOR_ADDRESS": f"127.0.0.1:{port}", "JAX_NUM_PROCESSES": "2", "XLA_FLAGS": ""}
    command = [sys.executable, "-c", HOST, str(tmp_path / "hosts")]
    hosts = [
        subprocess.Popen(command, cwd=ROOT, env={**os.environ, **settings, "JAX_PROCESS_ID": str(number)})
        for number in range(2)
    ]
    assert [host.wait(timeout=120) for host in hosts] == [0, 0]
    _train(tmp_path / "devices", tiny_config(), devices=jax.devices()[:2])
    rows = [read_rows(tmp_path / name / "metrics.jsonl") for name in ("hosts", "devices")]
    assert [row["loss"] for row in rows[0]] == pytest.approx([row["loss"] for row in rows[1]], abs=1e-6)
    for mine, theirs in zip(_weights(tmp_path / "hosts"), _weights(tmp_path / "devices"), strict=True):
        np.testing.assert_allclose(mine, theirs, atol=1e-6)


def test_config_json_is_the_config(undisturbed):
    config = json.loads((undisturbed[0] / "config.json").read_text())
    assert config["train"]["batch_size"] == 8
