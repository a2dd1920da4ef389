"""Mock cutouts: lenstronomy's images, conserved flux, kinds that are what they claim, purity."""

import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import config_dict

from configs import cutouts
from lensjax.physics import bands, lensing
from lensjax.sims import canvas as canvases
from lensjax.sims import galaxies, lenses, render

NUM = 192
FWHM = (1.5, 1.3, 1.2)


def config(**settings):
    made = config_dict.ConfigDict()
    made.sim, made.data = cutouts.lenses(), config_dict.ConfigDict({"size": 96})
    made.sim.update(settings)
    return made


@pytest.fixture(scope="module")
def simulate():
    return jax.jit(jax.vmap(lenses.make_simulator(config())))


@pytest.fixture(scope="module")
def mocks(simulate):
    batch = simulate(jax.random.split(jax.random.key(0), NUM))
    return {name: np.asarray(value) for name, value in batch.items()}


def number(value):
    return jnp.float32(value)


def lens_scene() -> lenses.Scene:
    """A deflector and an arc, and nothing else."""
    e1, e2 = lensing.ellipticity(number(0.7), number(0.5))
    bulge = galaxies.Galaxies(*map(number, (0.1, -0.05, 1.1, 2.5)), e1, e2, jnp.array([5.0, 25.0, 60.0]))
    mass = galaxies.Mass(number(1.7), e1 + 0.02, e2 - 0.01, number(0.04), number(-0.03))
    plain = dict.fromkeys(("ring", "arms", "number", "winding", "phase", "bend", "clumps"), number(0))
    places = {"x": 0.2, "y": -0.3, "re": 0.3, "n": 1.0, "q": 0.6, "phi": 0.8, "width": 1.0, "clump": 1.0}
    clumps = {"clump_x": jnp.zeros(2), "clump_y": jnp.zeros(2)}
    shape = galaxies.Shape(**plain, **clumps, **{name: number(value) for name, value in places.items()})
    nothing = galaxies.Galaxies(*([jnp.ones(1)] * 4), *([jnp.zeros(1)] * 2), jnp.zeros((1, 3)))
    stars = (jnp.zeros(1), jnp.zeros(1), jnp.zeros((1, 3)))
    centre = jnp.stack([bulge.x, bulge.y])
    return lenses.Scene(
        jnp.array(True), centre, bulge, mass, shape, jnp.array([1.0, 2.0, 3.0]), (nothing, 8), (nothing, 8), stars
    )


def lenstronomy_light(scene, n, radius, flux, e1, e2, x, y):
    """Keywords of its Sersic profile that mean the same curve: lenstronomy's b_n is a cruder one, so R is another."""
    b, theirs = float(lensing.sersic_b(n)), 1.9992 * n - 0.3271
    scaled = radius * (theirs / b) ** n
    centre = float(lensing.sersic(0.0, radius, n)) * flux
    return {"amp": centre * np.exp(-theirs), "R_sersic": scaled, "n_sersic": n, "e1": e1, "e2": e2,
            "center_x": x, "center_y": y}  # fmt: skip


def lenstronomy_image(scene, band, fwhm, size=96):
    """The same scene by lenstronomy, whole and the arc alone, 8 x 8 samples a pixel."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from lenstronomy.Data.imaging_data import ImageData
        from lenstronomy.Data.psf import PSF
        from lenstronomy.ImSim.image_model import ImageModel
        from lenstronomy.LensModel.lens_model import LensModel
        from lenstronomy.LightModel.light_model import LightModel

        first = -(size - 1) / 2 * bands.PIXEL
        data = ImageData(
            image_data=np.zeros((size, size)), ra_at_xy_0=first, dec_at_xy_0=first,
            transform_pix2angle=np.eye(2) * bands.PIXEL, background_rms=1, exposure_time=1,
        )  # fmt: skip
        light = ["SERSIC_ELLIPSE"]
        model = ImageModel(
            data, PSF("GAUSSIAN", fwhm=fwhm, truncation=5, pixel_size=bands.PIXEL), LensModel(["SIE", "SHEAR"]),
            LightModel(light), LightModel(light),
            kwargs_numerics={"supersampling_factor": 8, "supersampling_convolution": True},
        )  # fmt: skip
        shape = scene.shape._replace(clump_x=0.0, clump_y=0.0)
        m, s, b = (jax.tree.map(float, part) for part in (scene.mass, shape, scene.bulge._replace(flux=0.0)))
        x, y = map(float, scene.centre)
        lens = [{"theta_E": m.theta_e, "e1": m.e1, "e2": m.e2, "center_x": x, "center_y": y},
                {"gamma1": m.gamma1, "gamma2": m.gamma2, "ra_0": x, "dec_0": y}]  # fmt: skip
        e = [float(v) for v in lensing.ellipticity(s.q, s.phi)]
        source = lenstronomy_light(scene, s.n, s.re, float(scene.shape_flux[band]), *e, s.x + x, s.y + y)
        front = lenstronomy_light(scene, b.n, b.re, float(scene.bulge.flux[band]), b.e1, b.e2, x, y)
        return model.image(lens, [source], [front]), model.image(lens, [source], [front], lens_light_add=False)


def test_image_of_a_lens_is_lenstronomys():
    scene = lens_scene()
    canvas = canvases.make_canvas(96, 2, 6)
    seeing = {"psfsize": jnp.array(FWHM), "ebv": jnp.zeros(())}
    others, shape = jax.jit(lambda: lenses.observe(canvas, scene, seeing, "gaussian"))()
    arc = shape * scene.shape_flux[:, None, None]
    for band in range(3):
        whole, alone = lenstronomy_image(scene, band, FWHM[band])
        ours = np.asarray(canvases.blur(canvas, others + arc))[band]
        np.testing.assert_allclose(ours, whole, atol=0.01 * whole.max())
        np.testing.assert_allclose(np.asarray(canvases.blur(canvas, arc))[band], alone, atol=0.01 * alone.max())


@pytest.mark.parametrize("shape", ["gaussian", "moffat2.5", "moffat3.5", "moffat4.5"])
def test_blur_conserves_the_flux_of_points_and_keeps_their_place(shape):
    canvas = canvases.make_canvas(96, 2, 6)
    place, flux = (jnp.array([3.21]), jnp.array([-1.57])), jnp.array([[1.0, 2.0, 3.0]])
    blurring = lenses.psf.transfer(shape, jnp.array(FWHM)[:, None, None], canvas.frequency[None])
    image = np.asarray(canvases.blur(canvas, canvases.points(canvas, *place, flux, jnp.zeros(1)) * blurring))
    np.testing.assert_allclose(image.sum((1, 2)), flux[0], rtol=0.003 if shape == "gaussian" else 0.04)
    grid = (np.arange(96) - 47.5) * bands.PIXEL
    for band in image:
        y, x = np.unravel_index(band.argmax(), band.shape)
        box = band[y - 6 : y + 7, x - 6 : x + 7]
        assert (box.sum(0) @ grid[x - 6 : x + 7] / box.sum(), box.sum(1) @ grid[y - 6 : y + 7] / box.sum()) == (
            pytest.approx(3.21, abs=0.04), pytest.approx(-1.57, abs=0.04))  # fmt: skip


@pytest.mark.parametrize("size", [31, 32])
def test_the_centre_is_that_of_the_image(size):
    canvas = canvases.make_canvas(size, 2, 4)
    blurring = lenses.psf.transfer("gaussian", jnp.full((1, 1, 1), 1.2), canvas.frequency[None])
    point = canvases.points(canvas, jnp.zeros(1), jnp.zeros(1), jnp.ones((1, 1)), jnp.zeros(1))
    bulge = lens_scene().bulge._replace(x=number(0), y=number(0), n=number(1))
    galaxy = canvases.spectrum(canvas, render.draw_bulge(canvas, bulge))[None]
    shape = lens_scene().shape._replace(x=number(0), y=number(0))
    source = render.draw_shape(canvas, jnp.zeros(2), shape, lens_scene().mass, False)[None]
    for spectra in (point, galaxy, source):
        image = np.asarray(canvases.blur(canvas, spectra * blurring))[0]
        assert image.shape == (size, size)
        np.testing.assert_allclose(image, image[::-1, ::-1], atol=2e-4 * image.max())


def look_alike(kind):
    """Its shape, round its own centre, and the light of that on a grid of 0.1 arcsec."""
    _, shape, _ = jax.jit(lambda: galaxies.draw_lookalike(jax.random.key(5), config().sim, kind))()
    shape = shape._replace(x=number(0), y=number(0), phi=number(0), clumps=number(0))
    axis = np.arange(-60, 61).astype(np.float32) / 10
    return shape, np.asarray(render.shape_map(shape, axis[None, :], axis[:, None])), axis


def test_a_ring_is_hollow_an_edge_on_disc_thin_a_tail_bent_and_arms_turn():
    shape, light, axis = look_alike(galaxies.RING)
    on_ring = np.interp(float(shape.ring / jnp.sqrt(shape.q)), axis, light[60])
    assert on_ring == pytest.approx(light.max(), rel=0.01) and light[60, 60] < 0.02 * light.max()

    shape, light, axis = look_alike(galaxies.EDGE)
    spread = [np.sqrt((light.sum(i) * axis**2).sum() / light.sum()) for i in (0, 1)]
    assert spread[1] < 0.35 * spread[0]

    shape, light, axis = look_alike(galaxies.MERGER)
    ridge = axis[light.argmax(0)]
    np.testing.assert_allclose(ridge[40:81], float(shape.bend) * axis[40:81] ** 2, atol=0.06)

    shape, light, axis = look_alike(galaxies.SPIRAL)
    np.testing.assert_allclose(light, light[::-1, ::-1], rtol=2e-3)
    turn = 2 * np.pi * np.arange(64) / 64
    u, v = np.cos(turn) / np.sqrt(shape.q), np.sin(turn) * np.sqrt(shape.q)
    circle = np.asarray(render.shape_map(shape, u.astype(np.float32), v.astype(np.float32)))
    assert circle.max() > 1.5 * circle.min() and np.argmax(np.abs(np.fft.rfft(circle))[1:]) + 1 == float(shape.number)


def test_stamps_hold_the_flux_of_their_galaxies():
    canvas = canvases.make_canvas(96, 2, 6)
    one = [jnp.array([value]) for value in (2.0, -3.0, 0.5, 1.0, 0.2, 0.1)]
    galaxy = galaxies.Galaxies(*one, jnp.array([[1.0, 2.0, 4.0]]))
    maps = render.draw_galaxies(canvas, (galaxy, 32))
    flux = maps.sum((1, 2)) * (bands.PIXEL / 2) ** 2 + render.core(canvas, galaxy)[2][0]
    np.testing.assert_allclose(flux, [1, 2, 4], rtol=0.005)


@pytest.mark.parametrize("kind", [galaxies.RING, galaxies.SPIRAL, galaxies.EDGE, galaxies.MERGER])
def test_shapes_have_unit_flux(kind):
    canvas = canvases.make_canvas(96, 2, 6)
    _, shape, _ = jax.jit(lambda: galaxies.draw_lookalike(jax.random.key(kind), config().sim, kind))()
    shape = shape._replace(re=jnp.float32(1.0), x=jnp.float32(0), y=jnp.float32(0), ring=jnp.minimum(shape.ring, 2.5))
    unit = jax.jit(lambda: render.draw_shape(canvas, jnp.zeros(2), shape, lens_scene().mass, False))()
    assert float(unit[0, 0].real) == pytest.approx(1, abs=0.06)  # a bent or large one reaches over the square's edge


def test_every_number_is_finite_and_every_example_its_own(mocks):
    assert all(np.isfinite(value).all() and value.dtype == np.float32 for value in mocks.values())
    assert mocks["image"].shape == (NUM, 96, 96, 3)
    assert len({image.tobytes() for image in mocks["image"]}) == NUM


def test_an_example_is_a_pure_function_of_its_key(simulate, mocks):
    again = simulate(jax.random.split(jax.random.key(0), NUM))
    assert all(np.array_equal(mocks[name], again[name]) for name in mocks)
    keys = jax.random.split(jax.random.key(0), NUM)
    backwards = simulate(keys[::-1])
    np.testing.assert_allclose(backwards["image"][::-1], mocks["image"], atol=1e-4)


def test_noise_is_what_is_stated(mocks):
    pull = (mocks["image"] - mocks["clean"]) / mocks["noise"][:, None, None]
    dark = mocks["clean"] < 1e-3
    assert pull[dark].mean() == pytest.approx(0, abs=0.01)
    assert pull[dark].std() == pytest.approx(1, abs=0.01)
    np.testing.assert_allclose(np.median(mocks["noise"], 0), (0.0031, 0.0044, 0.0117), rtol=0.08)
    np.testing.assert_allclose(np.median(mocks["psfsize"], 0), (1.48, 1.33, 1.24), rtol=0.08)


def test_truth_belongs_to_lenses_alone_and_follows_its_laws(mocks):
    lens, law = mocks["label"] == 1, config().sim
    assert 0.35 < lens.mean() < 0.65 and np.array_equal(lens, mocks["kind"] == galaxies.LENS)
    for name in ("theta_e", "source_mag", "source_re", "magnification", "arc_snr", "gamma1"):
        assert (mocks[name][lens] != 0).all() and (mocks[name][~lens] == 0).all(), name
    impact = np.hypot(mocks["source_x"], mocks["source_y"])[lens] / mocks["theta_e"][lens]
    assert law.source.impact[0] < impact.min() and impact.max() < law.source.impact[1] + 1e-5
    assert np.mean(impact**2) == pytest.approx(np.mean(np.square(law.source.impact)), abs=0.015)  # area-weighted
    assert mocks["arc_snr"][lens].min() >= law.source.min_snr[0] * 0.999
    assert np.median(mocks["magnification"][lens]) > 3


def test_sources_are_brightened_never_dimmed_and_magnitudes_are_behind_the_dust(mocks):
    lens, star, law = mocks["label"] == 1, mocks["kind"] == galaxies.STAR, config().sim
    assert mocks["source_mag"][lens].max() <= law.source.mag[1] + 1e-4
    axis = (np.arange(96) - 47.5) * bands.PIXEL
    near = np.hypot(axis[None, :], axis[:, None]) < 4
    light = mocks["clean"][star][:, near].sum(1)
    np.testing.assert_allclose(np.median(light / bands.flux(mocks["mag"][star]), axis=0), 1, atol=0.03)


def test_the_magnitude_is_that_of_what_is_drawn(mocks):
    """Of large edge-on discs a part is: no object may be brighter in the catalogue than all light of its image."""
    disc = np.isin(mocks["kind"], (galaxies.EDGE, galaxies.SPIRAL, galaxies.MERGER))
    ratio = mocks["clean"][disc].sum((1, 2)) / bands.flux(mocks["mag"][disc])
    assert disc.sum() > 20 and ratio.min() > 0.97


def test_the_power_of_a_spectrum_is_the_sum_of_the_squares_of_its_image():
    canvas = canvases.make_canvas(16, 2, 2)
    white = np.random.default_rng(0).normal(size=(3, canvas.pixels, canvas.pixels)).astype(np.float32)
    np.testing.assert_allclose(canvases.power(canvas, jnp.fft.rfft2(white)), (white**2).sum((1, 2)), rtol=1e-4)


def colour(mocks, rows):
    return np.median(mocks["mag"][rows], axis=0)


def test_kinds_have_what_they_claim(mocks):
    kind = mocks["kind"]
    assert set(np.unique(kind)) == set(range(8))
    np.testing.assert_array_equal((mocks["centre_x"] == 0) & (mocks["centre_y"] == 0), kind == galaxies.STAR)
    red = colour(mocks, (kind == galaxies.LENS) | (kind == galaxies.RED))
    spiral = colour(mocks, (kind == galaxies.SPIRAL) | (kind == galaxies.EDGE))
    assert red[0] - red[1] > 1.4 > 1.0 > spiral[0] - spiral[1]
    y, x = np.mgrid[:96, :96] - 47.5
    for row in np.flatnonzero(kind == galaxies.STAR)[:4]:  # as wide as the PSF
        z = mocks["clean"][row, :, :, 2]
        above = (z > z[47:49, 47:49].max() / 2) & (np.hypot(x, y) < 10)
        assert above.sum() == pytest.approx(np.pi / 4 * (mocks["psfsize"][row, 2] / bands.PIXEL) ** 2, rel=0.3)
    core = np.hypot(x, y) < 3
    ring = mocks["clean"][kind == galaxies.RED][:, core].mean(0)
    assert ring[:, 2].mean() > 3 * ring[:, 0].mean()
