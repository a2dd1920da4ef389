"""Scoring of spectra that are already read: features and default network, beside the same in PyTorch.

From flux, error and redshift to the logit on both sides, with the same weights, and logits that must agree; ours also
locates the line. Then the network alone, on input channels that are already there. Ours runs as `--mode=search` does,
a device for each core.
"""

import pathlib
import sys
import tempfile

import common


def worker(folder: pathlib.Path) -> None:
    """Ours: writes the case for the twin into `folder`, then measures."""
    import jax
    import numpy as np

    from configs import lya
    from lensjax.core import sharding
    from lensjax.core.chunks import map_chunks
    from lensjax.core.compile import enable_cache
    from lensjax.models import make_model
    from lensjax.search import restore
    from lensjax.tasks.classify import OBSERVED

    enable_cache()
    config = lya.get_config()
    sharding.split_cpu(common.BATCH, config.model.chunk)
    mesh = sharding.make_mesh()
    task, params, model_state, mocks = common.network_case(config, common.BATCH)
    inputs = common.channels(config, mocks)
    scorer = restore._compiled(config, task.predict, params, model_state, "benchmark", restore.MESSAGES)
    module = make_model(config.model)

    def of_rows(params: dict, model_state: dict, inputs: dict) -> jax.Array:
        def run(piece: dict) -> jax.Array:
            return module.apply({"params": params}, piece["x"], piece["snr"], piece["mask"])["logit"]

        return map_chunks(run, inputs, config.model.chunk)

    network = sharding.compile_predict(of_rows, mesh)
    observed = {name: mocks[name] for name in OBSERVED}
    logit = np.asarray(network(params, {}, inputs))
    same = np.isclose(scorer.predict(observed)["logit"], logit, rtol=2e-3, atol=2e-3)
    assert same.mean() >= 0.98, "features of one program and of two differ by more than their last digits"
    common.save_case(folder, config, params, {**inputs, **observed, "logit": logit})
    np.savez(folder / "features.npz", **feature_constants(config))
    params, inputs = jax.device_put(params, sharding.replicated(mesh)), sharding.shard_batch(mesh, inputs)
    calls = range(8)  # dispatched together, as a search keeps some under way
    common.serve(
        {
            "network": lambda: common.rate(
                lambda: jax.block_until_ready([network(params, {}, inputs) for _ in calls]), len(calls) * common.BATCH
            ),
            "features and network": lambda: common.rate(
                lambda: jax.device_get([scorer.predict(observed) for _ in calls]), len(calls) * common.BATCH
            ),
        }
    )


def feature_constants(config) -> dict:
    """What peers/torch_features.py needs to know: templates, line lists as fractional pixels, kernels, priors."""
    import numpy as np

    from lensjax.fit import templates
    from lensjax.physics import filters, grid, lines
    from lensjax.tasks import features

    loglam = grid.window(*config.data.window)
    _, constants = features.make_features(config)
    kernels = [filters.line_kernel(*shape) for shape in features.FILTERS]
    longest = max(map(len, kernels)) // 2
    kinds = (1, len(constants["templates"]) - 1, templates.NUM_POLYNOMIALS)
    arrays = {
        "templates": constants["templates"],
        "start": (np.float32(loglam[0]) - constants["loglam0"]) / np.float32(grid.STEP),  # rounded as ours
        "polynomials": templates.polynomials(len(loglam)),
        "pixels": np.arange(len(loglam)),
        "kernels": np.stack([np.pad(kernel, longest - len(kernel) // 2) for kernel in kernels]),
        "log_prior": np.log(features.PRIOR),
        "relative": np.repeat([np.inf, features.TEMPLATE_WIDTH, features.POLYNOMIAL_WIDTH], kinds),
        "floor": np.repeat([0.0, 0.0, features.POLYNOMIAL_FLOOR], kinds),
        "lens_lines": grid.pixel(np.array(lines.LENS_LINES), loglam),
        "rest_lines": grid.pixel(np.array(lines.EMPIRICAL_REST), loglam),
        "sky_lines": grid.pixel(np.array([*lines.SKY_LINES, *lines.AIRGLOW, *lines.NIGHT_SKY]), loglam),
    }
    return {name: np.asarray(value, np.float32) for name, value in arrays.items()}


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        ours = common.Worker(__file__, "worker", folder)
        peer = common.torch_worker("inference", pathlib.Path(folder))
        rates = common.interleave({**ours.measures("lensjax"), **peer.measures("PyTorch")})
        ours.stop(), peer.stop()
    everything = rates["lensjax: features and network"]
    common.claim("spectra a second, features and network", everything, 2500)
    for name in ("features and network", "network"):
        best = max(value for key, value in rates.items() if key.startswith(f"PyTorch: {name}"))
        common.claim(f"ratio to PyTorch, {name} in both", rates[f"lensjax: {name}"] / best, 2, ".2f")


if __name__ == "__main__":
    worker(pathlib.Path(sys.argv[2])) if sys.argv[1:2] == ["worker"] else main()
