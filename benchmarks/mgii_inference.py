"""The network of Zhao et al. (2019) at inference, beside the same in PyTorch, with the same weights and logits.

And the arithmetic of one spectrum in it and in the networks that its authors compare it with. Ours runs as
`--mode=search` does, a device for each core.
"""

import pathlib
import sys
import tempfile

import common

PIXELS, BATCH = 3841, 256
CHUNKS = (8, 16, 32, 64)  # spectra of one pass; the best of them is ours, as the best of the twin's is the twin's
NETWORKS = ("cnn1d", "vgg1d", "inception1d", "resnet34_1d")


def model_config(name: str = "cnn1d"):
    """config.model of one of the networks at its paper's widths."""
    from ml_collections import config_dict

    fields = dict(name=name, first_size=0, width=0, dropout=0.5, dtype="float32")
    return config_dict.ConfigDict(fields)


def inputs(num: int) -> tuple:
    """x (N, P, 1) noise, snr and mask, which these networks do not use."""
    import numpy as np

    x = np.random.default_rng(0).normal(size=(num, PIXELS, 1)).astype(np.float32)
    return x, x[..., 0], x[..., 0] < np.inf


def megaflop(name: str) -> float:
    """Of one spectrum, as XLA counts them on a GPU, where convolutions are plain ones."""
    import jax

    from lensjax.models import init_variables, make_model

    module, arrays = make_model(model_config(name)), inputs(1)
    variables = jax.eval_shape(lambda key: init_variables(module, key, *arrays), jax.random.key(0))
    lowered = jax.jit(module.apply).trace(variables, *arrays).lower(lowering_platforms=("cuda",))
    return lowered.cost_analysis()["flops"] / 1e6


def worker(folder: pathlib.Path) -> None:
    """Ours: writes weights, inputs and logits for the twin into `folder`, then measures."""
    import jax
    import numpy as np
    from flax.traverse_util import flatten_dict

    from lensjax.core import sharding
    from lensjax.core.chunks import map_chunks
    from lensjax.core.compile import enable_cache
    from lensjax.models import init_variables, make_model

    enable_cache()
    sharding.split_cpu(BATCH, max(CHUNKS))
    mesh = sharding.make_mesh()
    module, arrays = make_model(model_config()), inputs(BATCH)
    few = tuple(a[:1] for a in arrays)
    variables = jax.jit(lambda key: init_variables(module, key, *few))(jax.random.key(0))

    def network(chunk: int):
        def run(variables: dict, _: dict, batch: dict) -> jax.Array:
            return map_chunks(lambda piece: module.apply(variables, **piece)["logit"], batch, chunk)

        return sharding.compile_predict(run, mesh)

    batch = sharding.shard_batch(mesh, dict(zip(("x", "snr", "mask"), arrays, strict=True)))
    compiled = {chunk: network(chunk) for chunk in CHUNKS}
    np.savez(folder / "weights.npz", **flatten_dict(jax.device_get(variables["params"]), sep="/"))
    np.savez(folder / "arrays.npz", x=arrays[0], logit=np.asarray(compiled[CHUNKS[0]](variables, {}, batch)))
    variables = jax.device_put(variables, sharding.replicated(mesh))
    for name in NETWORKS:
        print(f"{name:16s} {megaflop(name):8,.0f} MFLOP a spectrum", file=sys.stderr)
    common.serve(
        {
            f"{chunk} a pass": lambda run=run: common.rate(
                lambda: jax.block_until_ready(run(variables, {}, batch)), BATCH
            )
            for chunk, run in compiled.items()
        }
    )


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        ours = common.Worker(__file__, "worker", folder)
        peer = common.torch_worker("inference", pathlib.Path(folder), "torch_cnn.py")
        rates = common.interleave({**ours.measures("lensjax"), **peer.measures("PyTorch")})
        ours.stop(), peer.stop()
    best = {who: max(value for name, value in rates.items() if name.startswith(who)) for who in ("lensjax", "PyTorch")}
    common.claim("ratio to PyTorch", best["lensjax"] / best["PyTorch"], 1.05, ".2f")


if __name__ == "__main__":
    worker(pathlib.Path(sys.argv[2])) if sys.argv[1:2] == ["worker"] else main()
