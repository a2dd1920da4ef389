"""The user's own cutouts as batches: which are used, how often, and what the network is told of them."""

import numpy as np
import pytest

from configs import lens, ssl
from lensjax.core.errors import UserError
from lensjax.data import cutouts
from lensjax.data.batches import from_arrays
from lensjax.surveys.cutouts import write_cutouts

RNG = np.random.default_rng(0)
COUNT = 400


class Source:
    def __init__(self):
        self.mag = 21 - RNG.exponential(1.0, COUNT)
        flux = 10 ** (0.4 * (22.5 - self.mag))
        self.columns = {
            "file": np.full(COUNT, "x"),
            "flux": np.stack([flux * 0, flux * 0, flux], 1),
            "psfsize": np.full((COUNT, 3), 1.4),
            "psfdepth": np.full((COUNT, 3), 500.0),
            "ebv": np.full(COUNT, 0.05),
            "status": np.array(["ok"] * (COUNT - 1) + ["cut file"]),
        }

    def __len__(self):
        return COUNT

    def table(self):
        return self.columns

    def read(self, rows):
        return np.broadcast_to(np.asarray(rows, np.float32)[:, None, None, None], (len(rows), 4, 4, 3)).copy()


def config(**changes):
    settings = ssl.get_config("smoke")
    settings.data.update(changes)
    return settings


def rows_of(batch):
    return batch["image"][:, 0, 0, 0].astype(int)


def test_faint_and_unreadable_ones_are_not_used_and_splits_do_not_touch():
    source = Source()
    batches = from_arrays(*cutouts.load_cutouts(config(uniform_mag=False), source), 8, 0)
    seen = np.concatenate([rows_of(batches.train(i)) for i in range(batches.num_train // 8)])
    tested = np.concatenate([rows_of(batch) for batch in batches.test()])[: batches.num_test]
    assert len(set(seen)) == len(seen) and not set(seen) & set(tested)
    assert source.mag[seen].max() < 20 and source.mag[tested].max() < 20
    assert COUNT - 1 not in {*seen, *tested}
    np.testing.assert_array_equal(rows_of(batches.train(3)), rows_of(batches.train(3)))


def test_images_of_one_galaxy_are_of_one_split():
    source = Source()
    source.columns |= {"ra": np.arange(COUNT) // 2 * 1.0, "dec": np.zeros(COUNT)}  # pairs, as --mode=inject writes them
    settings = config(mag_max=30.0, uniform_mag=False, num_test=31)
    train, test = (part["image"][slice(None)][:, 0, 0, 0] // 2 for part in cutouts.load_cutouts(settings, source))
    assert not set(train) & set(test)
    assert len(train) + len(test) == COUNT - 1 and len(test) in (31, 32)
    source.columns |= {"ra": np.full(COUNT, np.nan)}
    assert len(cutouts.load_cutouts(settings, source)[1]["image"]) == 31


def test_images_of_a_galaxy_without_coordinates_are_of_one_split(tmp_path):
    pixels = np.broadcast_to(np.repeat(np.arange(40.0), 2)[:, None, None, None], (80, 40, 40, 3))
    for name in ("a.h5", "b.h5"):  # whose hosts are others
        write_cutouts(tmp_path / name, pixels + 100 * (name == "b.h5"), {"host": np.repeat(np.arange(40), 2)})
    settings = config(uniform_mag=False, num_test=15, input=str(tmp_path), size=40)
    train, test = (set(part["image"][slice(None)][:, 0, 0, 0]) for part in cutouts.load_cutouts(settings))
    assert not train & test and len(test) == 8 and len(train) == 72


def test_the_fewest_cutouts_have_one_to_test_on():
    rows = np.arange(9)
    assert cutouts.hold_out(rows, rows, 4)[1] == 1
    assert cutouts.hold_out(rows[:0], rows[:0], 4)[1] == 0


def test_fewer_than_there_are_come_evenly_in_magnitude():
    source = Source()
    rows = cutouts.chosen(source.columns, source.columns["status"] == "ok", config(num_train=60).data)
    counts, _ = np.histogram(source.mag[rows], 4, range=(source.mag[rows].min(), 20))
    everything, _ = np.histogram(source.mag[source.mag < 20], 4)
    assert len(rows) == 60
    assert counts.max() / counts.min() < everything.max() / everything.min() / 2


def test_noise_is_equation_b1_of_the_paper():
    source = Source()
    source.columns["psfdepth"][1] = 0
    batch = cutouts.observe(source, source.columns, np.array([0, 1]), 3)
    sigma = 1 / np.sqrt(4 * np.pi * 500 * (1.4 / 2.3548 / 0.262) ** 2)
    np.testing.assert_allclose(batch["noise"][0], sigma, rtol=1e-3)
    assert np.isnan(batch["noise"][1]).all()
    assert batch["ebv"][0] == pytest.approx(0.05)


def test_what_the_table_lacks_is_unknown():
    source = Source()
    source.columns = {"file": source.columns["file"]}
    batch = next(iter(from_arrays(*cutouts.load_cutouts(config(), source), 8, 0).test()))
    assert np.isfinite(batch["image"]).all()
    assert np.isnan(batch["psfsize"]).all() and np.isnan(batch["noise"]).all()
    assert cutouts.observe(source, source.columns, np.array([0, 1]), 4)["noise"].shape == (2, 4)
    assert batch["ebv"].sum() == 0


def test_too_few_are_refused():
    with pytest.raises(UserError, match="fewer than config"):
        cutouts.load_cutouts(config(mag_max=10.0), Source())


def test_a_supervised_system_gets_labels_and_only_labelled_objects():
    settings = lens.get_config("smoke")
    source = Source()
    label = np.where(np.arange(COUNT) % 7 == 0, -1, np.arange(COUNT) % 2)
    source.columns["label"] = np.full(COUNT, -1)
    with pytest.raises(UserError, match="has no column label"):
        cutouts.load_cutouts(settings, source)
    source.columns["label"] = label
    for arrays in cutouts.load_cutouts(settings, source):
        rows = arrays["image"][np.arange(len(arrays["label"]))][:, 0, 0, 0].astype(int)
        np.testing.assert_array_equal(arrays["label"], label[rows])
        assert set(arrays["label"]) == {0.0, 1.0}


def test_objects_without_a_label_take_no_labelled_ones_place():
    settings, source = lens.get_config("smoke"), Source()
    source.columns["label"] = np.where(np.arange(COUNT) < 60, np.arange(COUNT) % 2, -1)
    settings.data.update(uniform_mag=True, num_train=60)
    bright = np.sum(source.mag[:60] < 20)
    assert sum(len(arrays["label"]) for arrays in cutouts.load_cutouts(settings, source)) == bright
    assert not lens.get_config("demo").data.uniform_mag


def test_other_bands_than_the_networks_are_refused():
    source = Source()
    source.bands = "gri"
    with pytest.raises(UserError, match=r"3 bands \(gri\): expected 3 \(grz\)"):
        cutouts.load_cutouts(config(), source)


def test_one_bad_pixel_of_a_file_counts_as_zero(tmp_path):
    pixels = np.ones((100, 3, 36, 36), np.float32)
    pixels[:, 1, 5, 6] = np.nan
    np.savez(tmp_path / "a.npz", images=pixels)
    train, _ = cutouts.load_cutouts(config(input=str(tmp_path / "a.npz"), size=36))
    image = train["image"][np.array([3])][0]
    assert image[5, 6].tolist() == [1, 0, 1] and image.sum() == 36 * 36 * 3 - 1
