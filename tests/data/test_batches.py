"""Batches are a function of (seed, step), cover an epoch once, and keep the test split apart."""

import functools

import jax
import numpy as np
import pytest

from configs import mgii
from lensjax.core import sharding
from lensjax.core.errors import UserError
from lensjax.data import batches
from tests.tiny import simulate, tiny_config


def _rows(n, size, steps, seed=0):
    return [batches.epoch_rows(n, size, seed, step) for step in steps]


def test_an_epoch_is_a_permutation_less_its_last_part():
    first, second = (np.concatenate(_rows(10, 3, steps)) for steps in (range(3), range(3, 6)))
    for epoch in (first, second):
        assert len(set(epoch)) == 9 and set(epoch) <= set(range(10))
    assert not np.array_equal(first, second)
    assert set(first) != set(second) or len(first) == 9  # the row left out is drawn anew


def test_rows_are_a_function_of_seed_and_step():
    ahead = _rows(50, 8, range(12))
    batches.permutation.cache_clear()
    for step in (11, 0, 7):
        np.testing.assert_array_equal(batches.epoch_rows(50, 8, 0, step), ahead[step])
    assert not np.array_equal(batches.epoch_rows(50, 8, 1, 0), ahead[0])


def test_a_batch_longer_than_an_epoch():
    for step in range(3):
        rows = batches.epoch_rows(3, 8, 0, step)
        assert rows.shape == (8,)
        assert sorted(rows[:3]) == sorted(rows[3:6]) == [0, 1, 2]


def _arrays(n):
    return {"flux": np.arange(2.0 * n, dtype=np.float32).reshape(n, 2), "z": np.arange(n, dtype=np.float32)}


def test_arrays_keep_their_rows_together():
    made = batches.from_arrays(_arrays(10), _arrays(7), 4, seed=0)
    batch = made.train(5)
    np.testing.assert_array_equal(batch["flux"][:, 0], 2 * batch["z"])
    test = list(made.test())
    assert [part["z"].shape for part in test] == [(4,), (4,)]
    np.testing.assert_array_equal(np.concatenate([part["z"] for part in test])[: made.num_test], np.arange(7.0))


def test_the_truth_of_the_oracle_is_dropped():
    arrays = {**_arrays(8), "sigma": np.ones((8, 2), np.float32)}
    assert "sigma" not in batches.from_arrays(arrays, arrays, 4, 0).train(0)
    assert "continuum" not in batches.make_batches(tiny_config(), simulate).train(0)


def test_mocks_are_a_function_of_seed_split_and_step():
    made = batches.make_batches(tiny_config(), simulate)
    again = batches.make_batches(tiny_config(), simulate)
    np.testing.assert_array_equal(made.train(7)["flux"], again.train(7)["flux"])
    other = tiny_config()
    other.seed = 1
    flux = [made.train(0), made.train(1), next(made.test()), batches.make_batches(other, simulate).train(0)]
    flux = np.concatenate([batch["flux"] for batch in flux])
    assert len(np.unique(flux[:, 0])) == len(flux)
    for one, two in zip(made.test(), made.test(), strict=True):
        np.testing.assert_array_equal(one["flux"], two["flux"])
    assert len(list(made.test())) == 3 and made.num_test == 20


def test_mocks_do_not_depend_on_the_devices():
    one, four = (
        batches.make_batches(tiny_config(), simulate, sharding.make_mesh(jax.devices()[:n])).train(2) for n in (1, 4)
    )
    np.testing.assert_array_equal(one["flux"], four["flux"])
    assert len(four["flux"].sharding.device_set) == 4


@pytest.mark.parametrize("on_device", [False, True])
def test_a_stream_is_its_steps_in_order(on_device):
    asked = []

    def get(step):
        asked.append(step)
        return {"x": step}

    made = batches.Batches(get, lambda: iter(()), 1, 0, on_device)
    assert [batch["x"] for batch in batches.stream(made, range(3, 7))] == [3, 4, 5, 6]
    assert asked == [3, 4, 5, 6]
    assert list(batches.stream(made, range(4, 4))) == []


def test_an_error_in_the_reading_thread_arrives():
    def get(step):
        raise OSError("disk gone")

    with pytest.raises(OSError, match="disk gone"):
        next(batches.stream(batches.Batches(get, lambda: iter(()), 1, 0), range(2)))


def test_unknown_names():
    config = tiny_config()
    with pytest.raises(UserError, match=r"no simulator for config\.system = 'tiny'"):
        batches.make_batches(config)
    config.data.source = "tdfs"
    with pytest.raises(UserError, match="'tdfs': expected one of simulate, tfds"):
        batches.make_batches(config)


def test_lenses_have_their_share_of_every_batch_and_the_rest_comes_in_epochs():
    label = (np.arange(100) % 25 == 3).astype(np.float32)  # 4 lenses
    rows = [batches.shared_rows(label, 0.2, 10, 0, step) for step in range(12)]
    assert [int(label[r].sum()) for r in rows] == [2] * 12
    others = np.concatenate([r[label[r] == 0] for r in rows])
    assert len(others) == 96 and len(set(others)) == 96  # an epoch of 96, each once
    assert set(np.concatenate(rows)) == set(range(100))
    np.testing.assert_array_equal(rows[5], batches.shared_rows(label, 0.2, 10, 0, 5))
    assert not np.array_equal(rows[5], batches.shared_rows(label, 0.2, 10, 1, 5))
    with pytest.raises(UserError, match="0 are lenses"):
        batches.shared_rows(np.zeros(9), 0.2, 4, 0, 0)
    with pytest.raises(UserError, match="lens_share needs 2"):
        batches.shared_rows(label, 0.2, 1, 0, 0)


def test_batches_of_arrays_take_the_share():
    arrays = {"label": (np.arange(50) < 2).astype(np.float32), "x": np.arange(50.0)}
    made = batches.from_arrays(arrays, arrays, 10, 0, share=0.3)
    batch = made.train(7)
    assert batch["label"].sum() == 3 and set(batch["x"][batch["label"] > 0]) <= {0.0, 1.0}
    assert sum(b["label"].sum() for b in made.test()) == 2  # the test split is as it is


def test_twins_differ_by_what_is_looked_for_alone():
    config = mgii.get_config("smoke")
    config.data.twins, config.train.batch_size = True, 32
    config.sim.update(dict(dirt=0.0, bal_fraction=0.0, civ_fraction=0.0, feii_fraction=0.0))
    one, two = (batches.make_batches(config, mesh=sharding.make_mesh(jax.devices()[:n])) for n in (1, 2))
    batch = jax.device_get(one.train(3))
    jax.tree.map(
        functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-4), batch, jax.device_get(two.train(3))
    )
    pairs = {name: x.reshape(16, 2, *x.shape[1:]) for name, x in batch.items()}
    with_some = pairs["label"].any(axis=1)  # where a quasar has a place for an absorber
    assert 4 < with_some.sum() < 16 and (pairs["label"].sum(axis=1) <= 1).all()
    assert set(pairs["label"][with_some].argmax(axis=1)) == {0, 1}
    np.testing.assert_array_equal(pairs["z"][:, 0], pairs["z"][:, 1])
    np.testing.assert_array_equal(pairs["ivar"][:, 0], pairs["ivar"][:, 1])
    order = pairs["label"].argsort(axis=1)
    without, absorbed = np.take_along_axis(pairs["flux"], order[:, :, None], axis=1).swapaxes(0, 1)
    assert (absorbed <= without + 1e-4 * np.abs(without)).all()
    same = np.isclose(absorbed, without, rtol=1e-6)
    assert 0.5 < same[with_some].mean() < 1 and not same[with_some].all(axis=1).any() and same[~with_some].all()
    labels = [part["label"] for part in one.test()]
    assert not np.array_equal(np.concatenate(labels)[::2], 1 - np.concatenate(labels)[1::2])  # mocks of their own


def test_twins_are_refused_where_there_are_none():
    config = mgii.get_config("smoke")
    config.data.twins, config.train.batch_size = True, 9
    with pytest.raises(UserError, match="a multiple of 2"):
        batches.make_batches(config, mesh=sharding.make_mesh(jax.devices()[:1]))
    config.data.source = "tfds"
    with pytest.raises(UserError, match=r"twins is of fresh mocks, not of config\.data\.source 'tfds'"):
        batches.make_batches(config)
    config.system = "lens"
    with pytest.raises(UserError, match=r"data\.twins is of lya and mgii"):
        batches.make_twins(config)
