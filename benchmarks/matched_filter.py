"""The matched filter, beside a plain numpy loop and scipy.ndimage; then the whole traditional search."""

import functools

import common
import numpy as np

TAPS = {15: 2.2, 25: 4.0}  # length: sigma of the kernel, pixels
NUM = 1024  # spectra of one call
CLAIM = 100_000  # spectra a second


def numpy_loop(flux: np.ndarray, ivar: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    """S/N (N, P), one spectrum after the other."""
    rows = []
    for f, w in zip(flux, ivar, strict=True):
        signal, weight = np.correlate(f * w, kernel, "same"), np.correlate(w, kernel**2, "same")
        rows.append(np.where(weight > 0, signal / np.sqrt(np.where(weight > 0, weight, 1)), 0))
    return np.stack(rows)


def scipy_batch(flux: np.ndarray, ivar: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    """S/N (N, P), all spectra in one call of scipy.ndimage."""
    from scipy.ndimage import convolve1d

    signal = convolve1d(flux * ivar, kernel, axis=1, mode="constant")
    weight = convolve1d(ivar, kernel**2, axis=1, mode="constant")
    return np.where(weight > 0, signal / np.sqrt(np.where(weight > 0, weight, 1)), 0)


def filter_measures(taps: int) -> dict:
    """The filter stage alone, three ways, which must agree."""
    import jax

    from lensjax.physics import filters

    rng = np.random.default_rng(0)
    flux = rng.normal(size=(NUM, 1192)).astype(np.float32)
    ivar = rng.uniform(0.5, 4, flux.shape).astype(np.float32) * (rng.random(flux.shape) > 0.02)
    ivar = ivar.astype(np.float32)
    kernel = filters.gaussian_kernel(TAPS[taps], taps)
    ours = jax.jit(jax.vmap(lambda f, w: filters.matched_filter(f, w, kernel)[1]))
    expected = numpy_loop(flux, ivar, kernel)
    np.testing.assert_allclose(ours(flux, ivar), expected, atol=1e-4)
    np.testing.assert_allclose(scipy_batch(flux, ivar, kernel), expected, atol=1e-4)
    held = jax.device_put((flux, ivar))
    return {
        f"{taps} taps: lensjax": lambda: common.rate(lambda: jax.block_until_ready(ours(*held)), NUM),
        f"{taps} taps: numpy loop": lambda: common.rate(lambda: numpy_loop(flux, ivar, kernel), NUM),
        f"{taps} taps: scipy.ndimage": lambda: common.rate(lambda: scipy_batch(flux, ivar, kernel), NUM),
    }


def recipe_measures() -> dict:
    """The whole search as config.search.scorer names it: masks, template fit, rescaled errors, filter, decision."""
    import jax

    from configs import lya
    from lensjax.data.batches import make_simulator
    from lensjax.search import restore
    from lensjax.tasks.classify import OBSERVED

    config = lya.get_config()
    draw = jax.jit(jax.vmap(make_simulator(config)))
    mocks = jax.device_get(draw(jax.random.split(jax.random.key(1), common.BATCH)))
    batch, measures = {name: mocks[name] for name in OBSERVED}, {}

    def score(scorer: restore.Scorer) -> None:
        jax.device_get([scorer.predict(batch) for _ in range(8)])

    for name in ("matched_filter", "practical_filter"):
        config.search.scorer = name
        scorer = restore.make_scorer(config, "no workdir is needed")
        run = functools.partial(score, scorer)
        measures[f"whole search: {name}"] = functools.partial(common.rate, run, 8 * common.BATCH)
    return measures


def main() -> None:
    from lensjax.core.compile import enable_cache

    enable_cache()
    measures = {}
    for taps in TAPS:
        measures |= filter_measures(taps)
    rates = common.interleave({**measures, **recipe_measures()})
    for taps in TAPS:
        ours = rates[f"{taps} taps: lensjax"]
        common.claim(f"spectra a second through the filter of {taps} taps", ours, CLAIM)
        for peer in ("numpy loop", "scipy.ndimage"):
            common.claim(f"ratio to {peer}, {taps} taps", ours / rates[f"{taps} taps: {peer}"], 1, ".1f")


if __name__ == "__main__":
    main()
