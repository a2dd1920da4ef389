"""Each augmentation conserves what it must: light, colours, the target PSF and the target noise."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.ndimage

from configs.views import views
from lensjax.core.errors import UserError
from lensjax.data import augment as aug

SIZE, VIEW = 88, 56  # pixels
KEY = jax.random.key(5)


def settings(*steps, **changes):
    config = views()
    config.update({"steps": steps, "size": VIEW})
    config.update(changes)
    return config


def star(sigma, flux=1.0, size=SIZE, at=(0.0, 0.0)):
    """Round Gaussians of standard deviation sigma (B,) pixels: (size, size, B)."""
    y, x = np.mgrid[:size, :size] - (size - 1) / 2
    square = (y - at[0]) ** 2 + (x - at[1]) ** 2
    planes = [flux * np.exp(-0.5 * square / s**2) / (2 * np.pi * s**2) for s in sigma]
    return jnp.asarray(np.stack(planes, -1), jnp.float32)


def example(image=None, sigma=(2.4, 2.1, 2.0), noise=(0.0, 0.0, 0.0), ebv=0.03):
    image = star(sigma) if image is None else image
    psf = jnp.asarray(sigma) * aug.FWHM * 0.262
    return {"image": image, "psfsize": psf, "noise": jnp.asarray(noise), "ebv": jnp.float32(ebv)}


def views_of(config, given, count):
    return jax.jit(jax.vmap(lambda key: aug.make_augment(config)(key, given)))(jax.random.split(KEY, count))


def draws(count):
    config = settings(*aug.STEPS, size=1)
    return jax.jit(jax.vmap(lambda key: aug.draw_view(key, config)))(jax.random.split(KEY, count))


def widths(image):
    """Standard deviations (B,) of a star's light, both axes."""
    image = np.asarray(image, float)
    y, x = np.mgrid[: image.shape[0], : image.shape[1]]
    total = image.sum((0, 1))
    cy, cx = ((image * a[..., None]).sum((0, 1)) / total for a in (y, x))
    second = (image * ((y[..., None] - cy) ** 2 + (x[..., None] - cx) ** 2)).sum((0, 1)) / total
    return np.sqrt(second / 2)


def test_no_step_is_the_central_crop():
    image = jax.random.normal(KEY, (SIZE, SIZE, 3))
    out = views_of(settings(), example(image), 1)[0]
    np.testing.assert_allclose(out, aug.centre(image, VIEW), atol=1e-6)


def test_extinction_is_undone_by_its_inverse_and_is_the_transmission():
    np.testing.assert_allclose(aug.transmission(0.2) * aug.transmission(-0.2), 1, rtol=1e-6)
    np.testing.assert_allclose(-2.5 * np.log10(aug.transmission(1.0)), [3.214, 2.165, 1.211], rtol=1e-4)  # A_b / E


def test_dust_changes_every_pixel_alike_and_the_colours_by_the_law():
    given = example(sigma=(2.0, 2.0, 2.0), ebv=0.0)
    out = np.asarray(views_of(settings("extinction"), given, 500), float)
    loss = -2.5 * np.log10(out[:, 28, 28] / np.asarray(aug.centre(given["image"], VIEW))[28, 28])
    np.testing.assert_allclose(loss / loss[:, :1], np.broadcast_to([1, 0.6736, 0.3768], loss.shape), rtol=1e-3)
    assert np.median(loss[:, 0] / 3.214) == pytest.approx(0.0345, rel=0.1)  # Table 2's median E(B-V)
    dusty = views_of(settings("extinction"), {**given, "ebv": jnp.float32(0.5)}, 500)
    removed = aug.transmission(-0.5)
    np.testing.assert_allclose(dusty[0, 28, 28] / out[0, 28, 28], removed, rtol=1e-3)


def test_rotation_keeps_flux_and_shape_and_every_angle_comes_up():
    given = example(star((3.0, 3.0, 3.0), at=(0.0, 12.0)))
    out = np.asarray(views_of(settings("rotation"), given, 200), float)
    np.testing.assert_allclose(out.sum((1, 2)), 1, atol=2e-3)
    y, x = np.mgrid[:VIEW, :VIEW] - (VIEW - 1) / 2
    cy, cx = ((out[..., 0] * a).sum((1, 2)) for a in (y, x))
    np.testing.assert_allclose(np.hypot(cy, cx), 12, atol=0.05)
    counts, _ = np.histogram(np.arctan2(cy, cx), bins=4, range=(-np.pi, np.pi))
    assert counts.min() > 30


def test_a_quarter_turn_and_a_flip_are_exact():
    image = jax.random.normal(KEY, (9, 9, 2))
    one = jnp.ones(())
    np.testing.assert_allclose(aug.resample(image, 0.0 * one, -one, one), image[:, ::-1], atol=1e-5)
    turned = aug.resample(image, jnp.pi / 2 * one, one, one)
    assert min(np.abs(turned - np.rot90(image, k)).max() for k in (1, 3)) < 1e-4


def test_half_of_the_views_are_mirror_images():
    flips = draws(1000).flip
    assert set(np.unique(flips)) == {-1.0, 1.0}
    assert abs(float(flips.mean())) < 0.1


def test_size_scaling_stretches_both_axes_and_keeps_surface_brightness():
    given = example(star((6.0, 6.0, 6.0)))
    one = jnp.ones(())
    for scale in (0.9, 1.1):
        out = aug.resample(given["image"], 0.0 * one, one, scale * one)
        np.testing.assert_allclose(widths(out), 6 * scale, rtol=5e-3)
        np.testing.assert_allclose(out.sum((0, 1)), scale**2, rtol=2e-3)
        assert float(out.max()) == pytest.approx(float(given["image"].max()), rel=1e-2)
    drawn = views_of(settings("scale"), given, 100).sum((1, 2))[:, 0] ** 0.5
    assert 0.9 <= drawn.min() < 0.92 and 1.08 < drawn.max() <= 1.1


def test_blur_and_crop_are_scipys():
    image = np.random.default_rng(0).normal(size=(64, 64, 2)).astype(np.float32)
    out = aug.blur_and_crop(jnp.asarray(image), jnp.array([1.3, 0.0]), jnp.array([18, 15]), 32)
    expected = scipy.ndimage.gaussian_filter(image[..., 0], 1.3, truncate=8)[18:50, 15:47]
    np.testing.assert_allclose(out[..., 0], expected, atol=1e-5)
    np.testing.assert_allclose(out[..., 1], image[18:50, 15:47, 1], atol=1e-6)


@pytest.mark.parametrize("steps", [("blur",), ("rotation", "scale", "blur")])
def test_the_target_psf_is_reached(steps):
    exact = tuple((0.0, s - 1.0, 1.0) for s in (2.8, 2.6, 2.4))  # laws without spread
    out = views_of(settings(*steps, psf=exact), example(), 20)
    reached = np.array([widths(view) for view in out])
    np.testing.assert_allclose(reached.mean(0), (2.8, 2.6, 2.4), rtol=0.01)


def test_a_psf_that_is_wide_already_is_left_alone():
    sharp = tuple((0.0, s - 1.0, 1.0) for s in (1.0, 1.0, 1.0))
    given = example()
    out = views_of(settings("blur", psf=sharp), given, 1)[0]
    np.testing.assert_allclose(out, aug.centre(given["image"], VIEW), atol=1e-6)


@pytest.mark.parametrize("steps", [("noise",), ("rotation", "scale", "noise"), aug.STEPS])
def test_the_target_noise_is_reached(steps):
    """However interpolation and blur smoothed the image's own."""
    own = 0.004
    exact = tuple((0.0, s - 1.0, 1.0) for s in (0.006, 0.007, 0.012))
    image = own * jax.random.normal(KEY, (SIZE, SIZE, 3))
    config = settings(*steps, noise=exact, brightness=0.2, colour=0.0)  # the image's noise grows with its gain
    out = views_of(config, example(image, noise=(own,) * 3), 40)
    np.testing.assert_allclose(np.std(out, axis=(0, 1, 2)), (0.006, 0.007, 0.012), rtol=0.02)


def test_bands_have_noise_of_their_own():
    out = np.asarray(views_of(settings("noise"), example(jnp.zeros((SIZE, SIZE, 3))), 10))
    correlation = np.corrcoef(out.reshape(-1, 3).T)
    assert np.abs(correlation - np.eye(3)).max() < 0.02


def test_jitter_covers_its_range_in_whole_pixels():
    image = star((2.0,) * 3, size=SIZE + 1)
    out = views_of(settings("crop"), example(image), 400)
    peaks = np.array([np.unravel_index(np.argmax(view[..., 0]), (96, VIEW)) for view in out])
    assert set(peaks[:, 0] - VIEW // 2) == set(peaks[:, 1] - VIEW // 2) == set(range(-7, 8))


def test_unknown_psf_and_noise_are_drawn():
    given = {**example(), "psfsize": jnp.full(3, jnp.nan), "noise": jnp.full(3, jnp.nan)}
    out = views_of(settings(*aug.STEPS), given, 4)
    assert np.isfinite(out).all()


def test_drawn_laws_are_table_2():
    view = draws(4000)
    for psf in (view.psf, view.own_psf):
        np.testing.assert_allclose(np.median(psf, 0) * aug.FWHM * 0.262, (1.48, 1.33, 1.24), rtol=0.01)
    for noise in (view.noise, view.own_noise):
        np.testing.assert_allclose(np.median(noise, 0), (0.0031, 0.0044, 0.0117), rtol=0.02)
    assert np.median(view.ebv) == pytest.approx(0.0345, rel=0.05)


def test_two_keys_give_two_views_and_one_key_one():
    augment = jax.jit(lambda key: aug.make_augment(settings(*aug.STEPS))(key, example()))
    one, again, other = augment(KEY), augment(KEY), augment(jax.random.key(6))
    np.testing.assert_array_equal(one, again)
    assert not np.allclose(one, other)
    assert one.shape == (VIEW, VIEW, 3)


def test_wrong_steps_and_small_images_are_refused():
    with pytest.raises(UserError, match="'blurr'"):
        aug.make_augment(settings("blurr"))
    with pytest.raises(UserError, match="give cutouts of 110 pixels"):
        aug.make_augment(views())(KEY, example(jnp.zeros((100, 100, 3))))


def test_other_bands_have_views_without_dust():
    laws = {"psf": views().psf[:1], "noise": views().noise[:1]}
    with pytest.raises(UserError, match=r"1 bands, and the dust is known in g, r, z: leave 'extinction' out"):
        aug.make_augment(settings(*aug.STEPS, **laws))
    with pytest.raises(UserError, match=r"config\.augment\.psf has laws of 3 bands and config\.augment\.noise of 1"):
        aug.make_augment(settings("blur", noise=laws["noise"]))
    given = example(star((2.0,)), (2.0,), (0.0,))
    rest = [step for step in aug.STEPS if step != "extinction"]
    assert aug.make_augment(settings(*rest, **laws))(KEY, given).shape == (VIEW, VIEW, 1)


def test_gain_is_one_factor_for_every_pixel_with_the_scatter_that_is_asked_for():
    """Brightness of all bands together, and of each, in magnitudes."""
    out = np.asarray(views_of(settings("gain", brightness=0.5, colour=0.1), example(), 400))
    plain = np.asarray(views_of(settings(), example(), 1)[0])
    mags = -2.5 * np.log10(out.sum((1, 2)) / plain.sum((0, 1)))
    np.testing.assert_allclose(mags.std(0), np.hypot(0.5, 0.1), rtol=0.15)
    np.testing.assert_allclose((mags[:, 0] - mags[:, 2]).std(), np.sqrt(2) * 0.1, rtol=0.15)
    factor = out[0].sum((0, 1)) / plain.sum((0, 1))
    np.testing.assert_allclose(out[0], plain * factor, rtol=1e-4, atol=1e-6)


def test_size_scaling_widens_the_psf_that_is_left_to_reach():
    exact = ((0.0, 2.0, 1.0),) * 3
    out = views_of(settings("scale", "blur", psf=exact, scale=(1.2, 1.2)), example(sigma=(2.0,) * 3), 1)[0]
    np.testing.assert_allclose(widths(out), 3.0, rtol=0.01)


@pytest.mark.parametrize("step", ["extinction", "gain"])
def test_own_noise_grows_with_the_flux(step):
    own, law = 0.004, {"ebv": (0.0, -1.0, 1.0), "brightness": 1.0, "colour": 0.0}
    image = own * jax.random.normal(KEY, (SIZE, SIZE, 3))
    given = example(image, noise=(own,) * 3, ebv=0.4 if step == "extinction" else 0.0)
    grown = np.std(views_of(settings(step, **law), given, 40), axis=(1, 2))
    out = views_of(settings(step, "noise", noise=((0.0, -0.98, 1.0),) * 3, **law), given, 40)
    np.testing.assert_allclose(np.std(out, axis=(1, 2)), np.maximum(grown, 0.02), rtol=0.05)
