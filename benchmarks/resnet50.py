"""ResNet50 of 96 x 96 cutouts: embedding, and a step of MoCo v2, each beside PyTorch in a process of its own.

Ours runs as `run.py` does, a device for each core: 256 cutouts a call to embed, 64 a step to train, in two groups of 32
for batch normalisation. PyTorch embeds by its optimised path (jit.freeze, optimize_for_inference; the features must
agree), 8 or 32 cutouts a pass, and trains in channels_last, 32 or 64 a step. Both train on given views, so that the
networks, the loss and the optimiser are compared; our whole step, which also makes the views, is timed beside them.
Steps of each that are not timed come before those that are.
"""

import os
import pathlib
import sys
import tempfile

import common

IMAGES, BATCH, GROUPS, QUEUE = 256, 64, 2, 4096
SECONDS, ROUNDS = 8.0, 3


def settings():
    from configs import ssl

    config = ssl.get_config()
    config.train.batch_size = BATCH
    config.moco.update(dict(queue=QUEUE, bn_groups=GROUPS))
    config.model.chunk = 16
    return config


def worker(folder: pathlib.Path) -> None:
    """Ours: writes the case for PyTorch into `folder`, then measures."""
    import jax
    import numpy as np
    from flax.traverse_util import flatten_dict

    from lensjax.core import sharding
    from lensjax.core.chunks import map_chunks
    from lensjax.core.compile import enable_cache
    from lensjax.core.optim import make_optimizer
    from lensjax.core.task import init_state, make_train_step
    from lensjax.models import make_model, torchvision
    from lensjax.tasks import contrast

    enable_cache()
    config, rng = settings(), np.random.default_rng(0)
    sharding.split_cpu(IMAGES, config.model.chunk)
    mesh = sharding.make_mesh()
    task, tx = contrast.make_task(config), make_optimizer(config.optim, 10**6)
    init = sharding.compile_init(lambda key: init_state(task, tx, key), mesh, task.split)
    state = init(jax.random.key(0))
    encoder = make_model(config.model)
    images = rng.normal(size=(IMAGES, 96, 96, 3)).astype(np.float32)
    variables = {"params": state.params["encoder"], **state.model_state}

    def predict(params, model_state, batch):
        return map_chunks(
            lambda part: encoder.apply({"params": params, **model_state}, part["image"]), batch, config.model.chunk
        )

    compiled = sharding.compile_predict(predict, mesh)
    weights = jax.device_put((variables["params"], state.model_state), sharding.replicated(mesh))

    def embed():
        return np.asarray(compiled(*weights, sharding.shard_batch(mesh, {"image": images})))

    features = embed()
    flat = {name: np.asarray(x) for name, x in flatten_dict(jax.device_get(variables), sep="/").items()}
    np.savez(folder / "state.npz", **to_torch(flat, torchvision))
    views = rng.normal(size=(2, BATCH, 96, 96, 3)).astype(np.float32)
    np.savez(folder / "arrays.npz", images=images, features=features, views=views, queue=np.array(QUEUE))
    batch = {
        "image": rng.normal(size=(BATCH, 152, 152, 3)).astype(np.float32) * 0.01,
        "psfsize": np.full((BATCH, 3), 1.4, np.float32),
        "noise": np.full((BATCH, 3), 0.004, np.float32),
        "ebv": np.full(BATCH, 0.03, np.float32),
    }

    def stepper(step, given):
        step, given = sharding.compile_train_step(step, mesh, task.split), sharding.shard_batch(mesh, given)
        held = [init(jax.random.key(0))]

        def run() -> None:
            held[0], metrics = step(held[0], given, jax.random.key(0))
            jax.block_until_ready(metrics)

        return lambda: common.warm_rate(run, BATCH, SECONDS)

    still = settings()
    still.augment.steps = ()  # both views are the given image
    plain = contrast.make_task(still)
    common.serve(
        {
            "inference": lambda: common.rate(embed, IMAGES, SECONDS),
            "MoCo step": stepper(make_train_step(plain, tx), {**batch, "image": views[0]}),
            "MoCo step with views": stepper(make_train_step(task, tx), batch),
        }
    )


def to_torch(flat: dict, torchvision) -> dict:
    """Our arrays by torchvision's names: the inverse of models/torchvision.py."""
    state = {}
    for theirs, ours, kind in torchvision.layers("resnet50"):
        path = "/".join(ours)
        if kind == "conv":
            state[f"{theirs}.weight"] = flat[f"params/{path}/kernel"].transpose(3, 2, 0, 1)
            continue
        for name, leaf in torchvision.NORM.items():
            tree = "params" if leaf in ("scale", "bias") else "batch_stats"
            state[f"{theirs}.{name}"] = flat[f"{tree}/{path}/{leaf}"]
    return state


def main() -> None:
    peer = str(pathlib.Path(__file__).parent / "peers" / "torch_resnet50.py")
    python = os.environ.get("LENSJAX_TORCH_PYTHON", sys.executable)
    with tempfile.TemporaryDirectory() as folder:
        ours = common.Worker(__file__, "worker", folder)
        workers = [ours, *(common.Worker(peer, case, folder, python=python) for case in ("inference", "training"))]
        measures = ours.measures("lensjax")
        for process in workers[1:]:
            measures |= process.measures("PyTorch")
        rates = common.interleave(measures, ROUNDS)
        for process in workers:
            process.stop()
    best = max(rate for name, rate in rates.items() if name.startswith("PyTorch: inference"))
    common.claim("ratio to PyTorch's optimised inference", rates["lensjax: inference"] / best, 1.0, ".2f")
    step = max(rate for name, rate in rates.items() if name.startswith("PyTorch: MoCo"))
    common.claim("ratio to PyTorch, MoCo step on given views", rates["lensjax: MoCo step"] / step, 0.95, ".2f")
    print(f"ratio to it, ours with the views made: {rates['lensjax: MoCo step with views'] / step:.2f}")


if __name__ == "__main__":
    worker(pathlib.Path(sys.argv[2])) if sys.argv[1:2] == ["worker"] else main()
