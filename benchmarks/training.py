"""Training steps of the default network, beside the same network, loss and optimiser in PyTorch (eager).

The network alone, on precomputed channels, is compared; its loss and gradient norm must agree. Then our whole step:
fresh mocks, features and network.
"""

import pathlib
import sys
import tempfile

import common

DEVICES = {"1 device": "", "2 devices": "--xla_force_host_platform_device_count=2"}


def worker(folder: pathlib.Path) -> None:
    """Ours, on as many devices as XLA_FLAGS says: writes the case for the twin into `folder`, then measures."""
    import jax
    import numpy as np

    from configs import lya
    from lensjax.core import sharding
    from lensjax.core.compile import enable_cache
    from lensjax.core.optim import make_optimizer
    from lensjax.core.task import State, make_train_step
    from lensjax.data.batches import make_batches

    enable_cache()
    config = lya.get_config()
    config.model.dropout = 0.0  # so that two libraries give one loss; it costs nothing to speak of
    config.optim.warmup_steps = 10**6  # learning rates near zero: the weights stay sane however long this runs
    size, mesh, tx = config.train.batch_size, sharding.make_mesh(), make_optimizer(config.optim, 10**7)
    task, params, model_state, mocks = common.network_case(config, size)
    inputs = {**common.channels(config, mocks), "label": mocks["label"]}
    inputs["target"] = np.asarray(pixel_targets(config, mocks, inputs["mask"]))

    def stepper(task):
        """step(batch) -> metrics, of a state that it keeps."""
        state = State(np.int32(0), params, model_state, tx.init(params), {})
        state = jax.device_put(state, sharding.replicated(mesh))
        step = sharding.compile_train_step(make_train_step(task, tx), mesh)

        def run(batch: dict) -> dict:
            nonlocal state
            state, metrics = step(state, batch, jax.random.key(0))
            return metrics

        return run

    whole, alone = stepper(task), stepper(task._replace(loss=network_loss(config)))
    batches, batch = make_batches(config, mesh=mesh), sharding.shard_batch(mesh, inputs)
    first = alone(batch)
    expected = {"loss": float(first["loss"]), "grad_norm": float(first["grad_norm"])}
    np.testing.assert_allclose(whole(sharding.shard_batch(mesh, mocks))["loss"], expected["loss"], rtol=1e-3)
    common.save_case(folder, config, params, {**inputs, **expected})
    calls = range(4)  # under way together, as in train.py
    common.serve(
        {
            "training, network alone": lambda: common.rate(
                lambda: jax.block_until_ready([alone(batch) for _ in calls]), len(calls) * size
            ),
            "training, mocks, features and network": lambda: common.rate(
                lambda: jax.block_until_ready([whole(batches.train(i)) for i in calls]), len(calls) * size
            ),
        }
    )


def pixel_targets(config, mocks: dict, mask):
    """Where the lines are, as tasks/classify.py puts it: (N, P)."""
    import jax.numpy as jnp

    from lensjax.physics import grid
    from lensjax.tasks import losses

    position = jnp.log10(jnp.maximum(mocks["wave"] / 10.0 ** grid.window(*config.data.window)[0], 0.1)) / grid.STEP
    return losses.pixel_target(position, mask)


def network_loss(config):
    """The task's loss, of batches that hold the channels."""
    from lensjax.core.chunks import mean_chunks
    from lensjax.models import make_model
    from lensjax.tasks import losses

    module = make_model(config.model)

    def loss(params, state, batch, key):
        share = batch["label"].mean()

        def of_rows(params, rows, key):
            out = module.apply(
                {"params": params}, rows["x"], rows["snr"], rows["mask"], train=True, rngs={"dropout": key}
            )
            locate = losses.localisation(out["pixel_logit"], rows["target"], rows["label"], share)
            focal = losses.focal(out["logit"], rows["label"], config.loss.gamma)
            return focal + config.loss.locate_weight * locate, {}

        value, metrics = mean_chunks(of_rows, config.train.chunk)(params, batch, key)
        return value, (state.model_state, state.extra, metrics)

    return loss


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        measures, workers = {}, []
        for name, flags in DEVICES.items():
            workers.append(common.Worker(__file__, "worker", folder, environment={"XLA_FLAGS": flags}))
            measures |= workers[-1].measures(f"lensjax, {name}")
        workers.append(common.torch_worker("training", pathlib.Path(folder)))
        rates = common.interleave({**measures, **workers[-1].measures("PyTorch")})
        for process in workers:
            process.stop()
    peer = rates["PyTorch: training, network alone"]
    for name in DEVICES:
        ratio = rates[f"lensjax, {name}: training, network alone"] / peer
        common.claim(f"ratio to PyTorch, network alone in both, {name}", ratio, 1.2, ".2f")
        ratio = rates[f"lensjax, {name}: training, mocks, features and network"] / peer
        common.claim(f"ratio to PyTorch's network, ours with mocks and features, {name}", ratio, 1, ".2f")


if __name__ == "__main__":
    worker(pathlib.Path(sys.argv[2])) if sys.argv[1:2] == ["worker"] else main()
