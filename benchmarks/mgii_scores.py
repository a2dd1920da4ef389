"""Scores a second of the Mg II network: from flux, error and redshift to every absorber, and the network alone.

Beside them the paper's network, which says yes or no (235 MFLOP a spectrum), on the same spectra in the same run. All
as `--mode=search` runs them, a device for each core.
"""

import common

from lensjax.core.pages import use_huge_pages


def main() -> None:
    """Measure in turns and print the claim."""
    import jax
    import numpy as np
    from mgii_inference import model_config

    from configs import mgii
    from lensjax.core import sharding
    from lensjax.core.chunks import map_chunks
    from lensjax.core.compile import enable_cache
    from lensjax.data.batches import make_simulator
    from lensjax.models import init_variables, make_model
    from lensjax.search import restore
    from lensjax.tasks import absorption
    from lensjax.tasks.classify import OBSERVED

    enable_cache()
    config = mgii.get_config()
    sharding.split_cpu(common.BATCH, config.model.chunk)
    mesh = sharding.make_mesh()
    config, params, model_state = restore.restore(config, "no-such-folder")
    scorer = restore.network(config, "no-such-folder")
    mocks = jax.jit(jax.vmap(make_simulator(config)))(jax.random.split(jax.random.key(1), common.BATCH))
    observed = {name: np.asarray(mocks[name]) for name in OBSERVED}
    features, _ = absorption.make_features(config)
    channels = jax.jit(jax.vmap(features, in_axes=(0, None)))(observed, model_state["constants"])
    channels = sharding.shard_batch(mesh, channels)
    module, paper = make_model(config.model), make_model(model_config())
    flux = observed["flux"][..., None]
    weights = init_variables(paper, jax.random.key(0), flux[:1], flux[:1, :, 0], flux[:1, :, 0] > 0)
    params, weights = jax.device_put((params, weights), sharding.replicated(mesh))
    flux = sharding.shard_batch(mesh, {"x": flux})

    def ours(params, _, inputs):
        def run(piece):
            return module.apply({"params": params}, piece["x"], piece["snr"], piece["mask"])["pixel_logit"]

        return map_chunks(run, inputs, config.model.chunk)

    def theirs(weights, _, inputs):
        return map_chunks(lambda p: paper.apply(weights, p["x"], p["x"][..., 0], p["x"][..., 0] > 0), inputs, 32)

    network, papers = (sharding.compile_predict(run, mesh) for run in (ours, theirs))
    one = jax.eval_shape(lambda x: jax.tree.map(lambda a: a[:1], x), channels)
    cost = jax.jit(lambda x: ours(params, {}, x)).trace(one).lower(lowering_platforms=("cuda",)).cost_analysis()
    print(f"network: {cost['flops'] / 1e6:.1f} MFLOP a spectrum")
    rates = common.interleave(
        {
            "features, network and absorbers": lambda: common.rate(
                lambda: jax.device_get(scorer.predict(observed)), common.BATCH
            ),
            "network": lambda: common.rate(lambda: jax.block_until_ready(network(params, {}, channels)), common.BATCH),
            "the paper's network": lambda: common.rate(
                lambda: jax.block_until_ready(papers(weights, {}, flux)), common.BATCH
            ),
        }
    )
    common.claim("spectra scored a second", rates["features, network and absorbers"], 5_500)
    ratio = rates["features, network and absorbers"] / rates["the paper's network"]
    print(f"all of ours over the paper's network alone: {ratio:.2f}")


if __name__ == "__main__":
    use_huge_pages()
    main()
