"""Scores a second of the Mg II network: from flux, error and redshift to every absorber, and the network alone.

Beside them the paper's network, which says yes or no (235 MFLOP a spectrum), on the same spectra in the same run.
"""

import common


def main() -> None:
    """Measure in turns and print the claim."""
    import jax
    import numpy as np
    from mgii_inference import model_config

    from configs import mgii
    from lensjax.core.chunks import map_chunks
    from lensjax.core.compile import enable_cache
    from lensjax.data.batches import make_simulator
    from lensjax.models import init_variables, make_model
    from lensjax.search import restore
    from lensjax.tasks import absorption
    from lensjax.tasks.classify import OBSERVED

    enable_cache()
    config, params, model_state = restore.restore(mgii.get_config(), "no-such-folder")
    scorer = restore.network(config, "no-such-folder")
    mocks = jax.jit(jax.vmap(make_simulator(config)))(jax.random.split(jax.random.key(1), common.BATCH))
    observed = {name: np.asarray(mocks[name]) for name in OBSERVED}
    features, _ = absorption.make_features(config)
    channels = jax.jit(jax.vmap(features, in_axes=(0, None)))(observed, model_state["constants"])
    module, paper = make_model(config.model), make_model(model_config())
    flux = observed["flux"][..., None]
    weights = init_variables(paper, jax.random.key(0), flux[:1], flux[:1, :, 0], flux[:1, :, 0] > 0)

    def alone(piece):
        return module.apply({"params": params}, piece["x"], piece["snr"], piece["mask"])["pixel_logit"]

    network = jax.jit(lambda inputs: map_chunks(alone, inputs, config.model.chunk))
    theirs = jax.jit(
        lambda x: map_chunks(lambda p: paper.apply(weights, p["x"], p["x"][..., 0], p["x"][..., 0] > 0), {"x": x}, 32)
    )
    cost = network.lower(channels).compile().cost_analysis()
    print(f"network: {cost['flops'] / config.model.chunk / 1e6:.1f} MFLOP a spectrum")
    rates = common.interleave(
        {
            "features, network and absorbers": lambda: common.rate(
                lambda: jax.device_get(scorer.predict(observed)), common.BATCH
            ),
            "network": lambda: common.rate(lambda: jax.block_until_ready(network(channels)), common.BATCH),
            "the paper's network": lambda: common.rate(lambda: jax.block_until_ready(theirs(flux)), common.BATCH),
        }
    )
    common.claim("spectra scored a second", rates["features, network and absorbers"], 5_500)
    ours, paper_rate = rates["features, network and absorbers"], rates["the paper's network"]
    print(f"all of ours over the paper's network alone: {ours / paper_rate:.2f}")


if __name__ == "__main__":
    main()
