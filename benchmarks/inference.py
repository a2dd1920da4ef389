"""Scoring of spectra that are already read: the default network with its features, beside the same one in PyTorch.

The network alone is compared on the same input channels and weights, and its logits must agree; then our rate with
everything that PyTorch is not asked to do: transfer, template fit, matched filters, the line's wavelength.
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
    from lensjax.core.compile import enable_cache
    from lensjax.models import make_model
    from lensjax.search import restore
    from lensjax.tasks.classify import OBSERVED, map_chunks

    enable_cache()
    config = lya.get_config()
    task, params, model_state, mocks = common.network_case(config, common.BATCH)
    inputs = common.channels(config, mocks)
    scorer = restore._compiled(config, task.predict, params, model_state, "benchmark", restore.MESSAGES)
    module = make_model(config.model)

    @jax.jit
    def network(params: dict, inputs: dict) -> jax.Array:
        def run(piece: dict) -> jax.Array:
            return module.apply({"params": params}, piece["x"], piece["snr"], piece["mask"])["logit"]

        return map_chunks(run, inputs, config.model.chunk)

    observed = {name: mocks[name] for name in OBSERVED}
    logit = np.asarray(network(params, inputs))
    np.testing.assert_allclose(
        scorer.predict(observed)["logit"], logit, rtol=1e-3, atol=1e-2
    )  # channels differ in 1e-6
    common.save_case(folder, config, params, {**inputs, "logit": logit})
    params, inputs = jax.device_put((params, inputs))
    calls = range(8)  # dispatched together, as a search keeps some under way
    common.serve(
        {
            "network": lambda: common.rate(
                lambda: jax.block_until_ready([network(params, inputs) for _ in calls]), len(calls) * common.BATCH
            ),
            "features and network": lambda: common.rate(
                lambda: jax.device_get([scorer.predict(observed) for _ in calls]), len(calls) * common.BATCH
            ),
        }
    )


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        ours = common.Worker(__file__, "worker", folder)
        peer = common.torch_worker("inference", pathlib.Path(folder))
        rates = common.interleave({**ours.measures("lensjax"), **peer.measures("PyTorch")})
        ours.stop(), peer.stop()
    best = max(value for name, value in rates.items() if name.startswith("PyTorch"))
    network, everything = rates["lensjax: network"], rates["lensjax: features and network"]
    common.claim("spectra a second, features and network", everything, 2500)
    common.claim("ratio to PyTorch, network alone in both", network / best, 2, ".2f")
    common.claim("ratio to PyTorch's network, ours with features", everything / best, 1, ".2f")


if __name__ == "__main__":
    worker(pathlib.Path(sys.argv[2])) if sys.argv[1:2] == ["worker"] else main()
