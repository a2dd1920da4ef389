"""What is saved comes back, on any number of devices, from the path alone; what is damaged is noticed."""

import errno
import gc
import json
import os
import shutil

import jax
import numpy as np
import optax
import pytest

from lensjax.core import checkpoint, sharding
from lensjax.core.checkpoint import Checkpoints
from lensjax.core.errors import UserError
from lensjax.core.task import init_state
from tests.tiny import tiny_config, tiny_task

# A failed restore leaves Orbax's other reads to be collected after their event loop is closed, which they say aloud.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")

TX = optax.adam(0.1)
WEIGHTS = {"a": {"kernel": np.arange(6, dtype=np.float32).reshape(2, 3)}, "b": np.float32([7.0])}
STATE = {"mean": np.float32([1.0, 2.0])}


@pytest.fixture(autouse=True)
def collected():
    """What a failed restore left behind is collected here, not during another file's test."""
    yield
    gc.collect()


def _make(key):
    return init_state(tiny_task(), TX, key)


def _state(step=0, devices=1):
    mesh = sharding.make_mesh(jax.devices()[:devices])
    return sharding.compile_init(lambda key: _make(key).replace(step=step + _make(key).step), mesh)(
        jax.random.key(step)
    )


def _abstract(devices=1):
    return sharding.abstract_like(sharding.make_mesh(jax.devices()[:devices]), _make, jax.random.key(0))


def _assert_same(one, two):
    jax.tree.map(np.testing.assert_array_equal, one, two)


def _write(folder, losses, devices=1):
    """Checkpoints at 10, 20, ..., with the test losses given (None: not evaluated)."""
    with Checkpoints(folder) as checkpoints:
        for i, loss in enumerate(losses, start=1):
            metrics = None if loss is None else {"loss": loss}
            checkpoints.save(_state(10 * i, devices), tiny_config(), metrics, notes=[{"seen": i}])
    return checkpoints


def _flip(path, at):
    data = bytearray(path.read_bytes())
    data[at] ^= 0xFF
    path.write_bytes(data)


def _damage_arrays(folder, step):
    """Flip a byte in the middle of each data file."""
    files = [p for p in (folder / str(step) / "state").rglob("*") if p.parent.name == "d"]
    assert files
    for file in files:
        _flip(file, file.stat().st_size // 2)


def test_there_is_nothing_in_an_empty_folder(tmp_path):
    with Checkpoints(tmp_path / "new") as checkpoints:
        assert checkpoints.restore_latest(_abstract()) is None
        assert checkpoints.best_step() is None


@pytest.mark.parametrize("wrote, reads", [(1, 1), (4, 1), (1, 4)])
def test_round_trip_across_devices(tmp_path, wrote, reads):
    _write(tmp_path, [0.5], devices=wrote)
    with Checkpoints(tmp_path) as checkpoints:
        state, notes = checkpoints.restore_latest(_abstract(reads))
    _assert_same(state, _state(10))
    assert notes == [{"seen": 1}]
    assert len(state.params["w"].sharding.device_set) == reads


def test_latest_two_and_best_are_kept(tmp_path):
    _write(tmp_path, [0.5, 0.2, 0.4, None, 0.3])
    with Checkpoints(tmp_path) as checkpoints:
        assert checkpoints.steps() == [20, 40, 50]
        assert checkpoints.best_step() == 20
        state, _ = checkpoints.restore_latest(_abstract())
    assert state.step == 50


def test_the_best_of_a_maximum(tmp_path):
    with Checkpoints(tmp_path, "accuracy", "max") as checkpoints:
        for step, value in ((1, 0.7), (2, 0.9), (3, np.nan), (4, 0.8)):
            checkpoints.save(_state(step), tiny_config(), {"accuracy": value})
        assert checkpoints.best_step() == 2
    config, params, _ = checkpoint.restore_for_inference(tmp_path)
    _assert_same(params, _state(2).params)
    assert config.train.batch_size == 8


def test_a_flipped_byte_sends_a_run_back_one(tmp_path):
    _write(tmp_path, [0.5, 0.4])
    _damage_arrays(tmp_path, 20)
    with Checkpoints(tmp_path) as checkpoints:
        with pytest.warns(UserWarning, match="checkpoint 20 cannot be read"):
            state, notes = checkpoints.restore_latest(_abstract())
        _assert_same(state, _state(10))
        assert notes == [{"seen": 1}]
        assert (tmp_path / "unreadable" / "20").is_dir()
        checkpoints.save(_state(20), tiny_config())  # the damaged step can be written again
    with Checkpoints(tmp_path) as checkpoints:
        assert checkpoints.restore_latest(_abstract())[0].step == 20


@pytest.mark.parametrize("item", ["state/_METADATA", "state/manifest.ocdbt", "meta/metadata"])
def test_a_missing_file_sends_a_run_back_one(tmp_path, item):
    _write(tmp_path, [0.5, 0.4])
    (tmp_path / "20" / item).unlink()
    with Checkpoints(tmp_path) as checkpoints, pytest.warns(UserWarning, match="going back"):
        assert checkpoints.restore_latest(_abstract())[0].step == 10


def test_another_model_is_refused_and_nothing_deleted(tmp_path):
    _write(tmp_path, [0.5])
    other = _abstract().replace(params={"w": jax.ShapeDtypeStruct((3, 3), np.float32)})
    with Checkpoints(tmp_path) as checkpoints:
        with pytest.raises(UserError, match="damaged or of another model"):
            checkpoints.restore_latest(other)
        assert checkpoints.steps() == [10]


def test_inference_needs_the_path_alone(tmp_path):
    _write(tmp_path / "run" / "checkpoints", [0.5, 0.2, 0.4], devices=4)
    for path in (tmp_path / "run", tmp_path / "run" / "checkpoints"):
        config, params, model_state = checkpoint.restore_for_inference(path)
        _assert_same(params, _state(20).params)
        _assert_same(model_state, _state(20).model_state)
        assert config.to_dict() == tiny_config().to_dict()


def test_inference_passes_over_a_damaged_best(tmp_path):
    _write(tmp_path, [0.5, 0.2, 0.4])
    _damage_arrays(tmp_path, 20)
    with pytest.warns(UserWarning, match="checkpoint 20"):
        _, params, _ = checkpoint.restore_for_inference(tmp_path)
    _assert_same(params, _state(30).params)


def test_inference_takes_the_first_of_equals_as_training_does(tmp_path):
    """Whether a run was stopped in between or not."""
    for step, accuracy in ((10, 0.9), (20, 0.9), (30, 0.8), (40, None)):
        meta = {"best": {"metric": "accuracy", "sign": -1}, "metrics": accuracy and {"accuracy": accuracy}}
        (tmp_path / str(step) / "meta").mkdir(parents=True)
        (tmp_path / str(step) / "meta" / "metadata").write_text(json.dumps(meta))
    assert checkpoint._inference_order(tmp_path) == [10, 20, 30, 40]
    for step in (10, 20, 30):
        shutil.rmtree(tmp_path / str(step) / "meta")
    assert checkpoint._inference_order(tmp_path) == [40, 30, 20, 10]


def test_weights_come_back(tmp_path):
    file = checkpoint.save_weights(tmp_path / "w", WEIGHTS, STATE, tiny_config())
    assert file == tmp_path / "w" / "weights.npz"
    for path in (file, file.parent):
        config, params, model_state = checkpoint.load_weights(path)
        _assert_same(params, WEIGHTS)
        _assert_same(model_state, STATE)
        assert config.to_dict() == tiny_config().to_dict()
        _assert_same(checkpoint.restore_for_inference(path)[1], WEIGHTS)


def test_weights_in_eight_bits_are_near(tmp_path):
    rng = np.random.default_rng(0)
    kernel = rng.normal(size=(3, 40, 50)).astype(np.float32) * np.arange(50, dtype=np.float32)
    weights = {"dense": {"kernel": kernel, "bias": rng.normal(size=50).astype(np.float32)}}
    whole, small = (
        checkpoint.save_weights(tmp_path / f"{dtype}.npz", weights, STATE, tiny_config(), dtype)
        for dtype in ("float32", "int8")
    )
    assert small.stat().st_size < 0.4 * whole.stat().st_size
    _, params, state = checkpoint.load_weights(small)
    _assert_same(state, STATE)
    _assert_same(params["dense"]["bias"], weights["dense"]["bias"])
    assert params["dense"]["kernel"].dtype == np.float32
    step = np.abs(kernel).max(axis=(0, 1)) / 127
    assert (np.abs(params["dense"]["kernel"] - kernel) <= 0.501 * step).all()
    with pytest.raises(UserError, match="expected float32 or int8"):
        checkpoint.save_weights(tmp_path, weights, STATE, tiny_config(), "int4")


def test_weights_without_statistics(tmp_path):
    file = checkpoint.save_weights(tmp_path / "a.npz", WEIGHTS, {}, tiny_config())
    assert checkpoint.load_weights(file)[2] == {}


@pytest.mark.parametrize("name", ["run [2]", "a\\b"])
def test_a_path_in_which_checkpoints_would_be_lost_is_refused(tmp_path, name):
    with pytest.raises(UserError, match="take a --workdir without it"):
        Checkpoints(tmp_path / name)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["a b", "ä*?", "50%41", "'{q}\""])
def test_checkpoints_come_back_from_paths_with_other_signs(tmp_path, name):
    _write(tmp_path / name, [0.5])
    _, params, _ = checkpoint.restore_for_inference(tmp_path / name)
    _assert_same(params, jax.device_get(_state(10).params))


def test_a_full_disk_is_said_before_orbax_writes(tmp_path, monkeypatch):
    _write(tmp_path, [0.5])
    with Checkpoints(tmp_path) as checkpoints:
        usage = shutil.disk_usage(tmp_path)
        monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=20))
        with pytest.raises(UserError, match=r"checkpoint of step 20 takes .* has 0\.0 left: make room"):
            checkpoints.save(_state(20), tiny_config())
        monkeypatch.undo()
        monkeypatch.setattr(checkpoints._manager, "save", lambda *a, **k: _fail())
        with pytest.raises(OSError, match=f"No space left on device: '{tmp_path}'"):
            checkpoints.save(_state(20), tiny_config())
    assert checkpoints.steps() == [10]


def _fail():
    raise ValueError(f"RESOURCE_EXHAUSTED: {os.strerror(errno.ENOSPC)}")


def test_any_flipped_byte_of_weights_is_noticed_or_harmless(tmp_path):
    """Harmless: bytes of the zip container that carry no data (time stamps); most must be noticed."""
    file = checkpoint.save_weights(tmp_path / "a.npz", WEIGHTS, STATE, tiny_config())
    whole = file.read_bytes()
    noticed = 0
    places = range(0, len(whole), 97)
    for at in places:
        _flip(file, at)
        try:
            config, params, _ = checkpoint.load_weights(file)
            _assert_same(params, WEIGHTS)
            assert config.to_dict() == tiny_config().to_dict()
        except UserError:
            noticed += 1
        file.write_bytes(whole)
    assert noticed > 0.5 * len(places)


def test_a_changed_number_is_noticed_though_the_zip_is_sound(tmp_path):
    file = checkpoint.save_weights(tmp_path / "a.npz", WEIGHTS, STATE, tiny_config())
    with np.load(file) as stored:
        arrays = dict(stored)
    arrays["params/b"] = np.float32([7.5])
    np.savez(file, **arrays)
    with pytest.raises(UserError, match="damaged"):
        checkpoint.load_weights(file)


def test_wrong_weights_are_named(tmp_path):
    with pytest.raises(UserError, match=f"no weights at {tmp_path}/none"):
        checkpoint.restore_for_inference(tmp_path / "none")
    text = tmp_path / "notes.npz"
    text.write_text("not weights")
    with pytest.raises(UserError, match="not a whole weights file"):
        checkpoint.load_weights(text)
    with pytest.raises(UserError, match=r"here is of another model: params/b has shape \(1,\) there and \(2,\)"):
        checkpoint.check_same((WEIGHTS, STATE), ({**WEIGHTS, "b": np.zeros(2)}, STATE), "here")
