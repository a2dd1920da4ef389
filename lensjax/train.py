"""Training: the one impure loop. Everything it repeats is a pure function of (config, step)."""

import collections
import contextlib
import math
import os
import pathlib
import signal
from collections.abc import Callable, Generator, Iterator, Sequence
from typing import Any

import jax
import numpy as np

from lensjax.core import checkpoint, settings, sharding
from lensjax.core.checkpoint import Checkpoints
from lensjax.core.errors import UserError
from lensjax.core.journal import Journal, Progress
from lensjax.core.optim import make_optimizer
from lensjax.core.task import State, Task, begin, init_state, make_train_step
from lensjax.data.batches import Batches, make_batches, stream

STEP_STREAM = 100  # sets the keys of the steps (dropout) apart from those of the mocks' splits
AHEAD = 4  # steps dispatched beyond the one that runs: keeps the device busy and the queue of batches short
UNRANKED = "the newest checkpoint counts as the best (config.train.best_metric)"
MetricsFn = Callable[[dict[str, np.ndarray], dict[str, np.ndarray]], dict[str, float]]


def train(
    config: Any,
    workdir: str | os.PathLike,
    task: Task | None = None,
    batches: Batches | None = None,
    metrics: MetricsFn | None = None,
    devices: Sequence[Any] | None = None,
) -> dict[str, float]:
    """Train config's task in workdir, from its newest checkpoint if there is one; returns the last test metrics.

    Writes config.json, data.txt, checkpoints/, metrics.jsonl, curves.png. On one device a run that was killed and
    started again equals an undisturbed one bit for bit. SIGTERM and Ctrl-C save a checkpoint, then raise SystemExit.

    task, batches, metrics, devices: stand in for those of the config; metrics(predictions, truth) takes dicts of
    arrays (N,), and predictions also (N, D). Raises UserError for a workdir of another config or of other objects, for
    weights of config.train.start that are of another model, and for a loss that is not finite, naming the step.
    """
    mesh = sharding.make_mesh(devices)
    sharding.check_batch_size(mesh, config.train.batch_size)
    begun, writes = checkpoint.has_begun(workdir), jax.process_index() == 0
    settings.claim_workdir(workdir, config, writes, begun)
    task = task or _make_task(config)
    if config.train.start:
        task = task._replace(warm=make_warm(config))
    tx = make_optimizer(config.optim, config.train.steps)
    batches = batches or make_batches(config, mesh=mesh)
    settings.claim_data(workdir, batches.identity, writes, begun)
    run = _Run(config, mesh, task, batches, metrics or _default_metrics(config))
    folder = pathlib.Path(workdir) / "checkpoints"
    with Checkpoints(folder, config.train.best_metric, config.train.best_mode) as checkpoints:
        state, pending = _start(checkpoints, task, tx, mesh, jax.random.key(config.seed))
        journal = Journal(workdir, int(state.step), writes=writes)
        if int(state.step) < config.train.steps:
            step = sharding.compile_train_step(make_train_step(task, tx), mesh, task.split)
            state = _loop(run, state, pending, step, checkpoints, journal)
        else:
            journal.draw()
        last = journal.last("test") or {"step": -1}
        return last if last["step"] == int(state.step) else run.test_row(state)


def _make_task(config: Any) -> Task:
    from lensjax.tasks import make_task

    return make_task(config)


def make_warm(config: Any) -> Callable[[Any, Any], tuple[Any, Any]]:
    """warm(params, model_state) of a Task: the weights of config.train.start.

    A workdir, a folder of released weights or its file. UserError where they are not of config.model.
    """
    path = config.train.start

    def warm(params: Any, model_state: Any) -> tuple[Any, Any]:
        stored, *weights = checkpoint.restore_for_inference(path)
        if "constants" in model_state:  # of config.sim.continuum, not of a training
            weights[1] = {**weights[1], "constants": model_state["constants"]}
        checkpoint.check_same((weights[0], weights[1]), (params, model_state), path)
        if "model" in stored:
            settings.check_same_model(stored.model, config.model, path)
        return weights[0], weights[1]

    return warm


def _default_metrics(config: Any) -> MetricsFn:
    from lensjax.tasks import make_metrics

    return make_metrics(config)


def _start(checkpoints: Checkpoints, task: Task, tx: Any, mesh: Any, key: jax.Array) -> tuple[State, list]:
    """The state to begin with, and the metrics of steps not yet in the journal."""

    def init(key: jax.Array) -> State:
        return init_state(task, tx, key)

    restored = checkpoints.restore_latest(sharding.abstract_like(mesh, init, key, split=task.split))
    if restored is not None:
        return restored
    return begin(task, sharding.compile_init(init, mesh, task.split)(key)), []


class _Run:
    """What stays the same during a run: its config, devices, data and compiled evaluation."""

    def __init__(self, config: Any, mesh: Any, task: Task, batches: Batches, metrics: MetricsFn):
        self.config, self.mesh, self.batches, self.metrics = config, mesh, batches, metrics

        def predict(params: Any, model_state: Any, batch: dict[str, jax.Array]) -> tuple[dict, dict]:
            return _small(task.predict(params, model_state, batch), 2), _small(batch, 1)

        self.predict = sharding.compile_predict(predict, mesh)

    def epoch(self, step: int) -> float:
        return round(step * self.config.train.batch_size / self.batches.num_train, 6)

    def train_row(self, step: int, pending: list[dict[str, float]]) -> dict[str, Any]:
        """Means over the steps since the last row."""
        means = {name: float(np.mean([m[name] for m in pending])) for name in pending[0]}
        return {"step": step, "split": "train", "epoch": self.epoch(step), **means}

    def test_row(self, state: State) -> dict[str, Any]:
        """The metrics of the whole test split."""
        step = int(state.step)
        predicted, truth = predict_split(self.predict, state, self.batches, self.mesh)
        scores = {name: float(value) for name, value in self.metrics(predicted, truth).items()}
        finite_only = {name: value for name, value in scores.items() if math.isfinite(value)}  # JSON has no NaN
        return {"step": step, "split": "test", "epoch": self.epoch(step), **finite_only}


def _small(arrays: dict[str, jax.Array], dimensions: int) -> dict[str, jax.Array]:
    """The arrays with one number an example or, of two `dimensions`, a vector."""
    return {name: x for name, x in arrays.items() if x.ndim <= dimensions}


def predict_split(
    predict: Callable[..., Any], state: State, batches: Batches, mesh: Any
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Predictions and truth over the test split: dicts of (num_test,) arrays, the whole of them in every process."""
    parts, in_flight = [], collections.deque()
    for batch in batches.test():
        in_flight.append(predict(state.params, state.model_state, sharding.shard_batch(mesh, batch)))
        if len(in_flight) > AHEAD:
            parts.append(jax.device_get(in_flight.popleft()))
    parts += [jax.device_get(out) for out in in_flight]
    predicted, truth = zip(*parts, strict=True)
    return _join(predicted, batches.num_test), _join(truth, batches.num_test)


def _join(parts: Sequence[dict[str, np.ndarray]], size: int) -> dict[str, np.ndarray]:
    return {name: np.concatenate([part[name] for part in parts])[:size] for name in parts[0]}


def _loop(
    run: _Run, state: State, pending: list, compiled: Callable, checkpoints: Checkpoints, journal: Journal
) -> State:
    """Steps to config.train.steps. `pending` holds the metrics of the steps since the journal's last train row."""
    config, start = run.config.train, int(state.step)
    key = jax.random.fold_in(jax.random.key(run.config.seed), STEP_STREAM)
    progress = Progress(config.steps, start, silent=jax.process_index() > 0)
    in_flight = collections.deque(maxlen=AHEAD)
    with contextlib.closing(progress), _signals() as stopped, contextlib.closing(_feed(run, start)) as feed:
        for step, batch in zip(range(start + 1, config.steps + 1), feed, strict=True):
            if len(in_flight) == AHEAD:
                jax.block_until_ready(in_flight[0])
            state, metrics = compiled(state, batch, key)
            in_flight.append(metrics)
            pending.append(metrics)
            asked = jax.process_count() == 1 or step % config.log_every == 0  # processes must stop at the same step
            last, halt = step == config.steps, asked and sharding.any_process(bool(stopped))
            log = last or step % config.log_every == 0
            test = last or step % config.eval_every == 0
            save = last or test or halt or step % config.checkpoint_every == 0
            if log or save:
                pending = finite(pending, step, checkpoints)
            if log:
                journal.write(**run.train_row(step, pending))
                progress.note(f"loss {journal.rows[-1]['loss']:.4g}")
                pending = []
            if test:
                first, row = journal.last("test") is None, run.test_row(state)
                if first and config.best_metric not in row:
                    progress.say(f"the tests tell no {config.best_metric}, but {', '.join(list(row)[3:])}: {UNRANKED}")
                journal.write(**row)
                journal.draw()
            if save:
                scores = journal.rows[-1] if test else None
                checkpoints.save(state, run.config, scores, pending)
            progress.advance()
            if halt and not last:
                _leave(progress, step, stopped[0] if stopped else signal.SIGTERM)
    return state


def _feed(run: _Run, start: int) -> Generator[dict[str, jax.Array]]:
    for batch in stream(run.batches, range(start, run.config.train.steps)):
        yield sharding.shard_batch(run.mesh, batch)


def finite(pending: list[dict[str, Any]], step: int, checkpoints: Checkpoints) -> list[dict[str, float]]:
    """Metrics of the last steps, up to `step`, as floats. Raises UserError at the first that is not finite."""
    rows = [{name: float(x) for name, x in metrics.items()} for metrics in jax.device_get(pending)]
    for i, row in enumerate(rows, start=step - len(rows) + 1):
        bad = next((name for name in ("loss", "grad_norm") if not math.isfinite(row[name])), None)
        if bad:
            kept = checkpoints.steps()
            raise UserError(
                f"{bad} is {row[bad]} at step {i}, where a finite number was expected: lower config.optim.learning_rate"
                f" or check the data (newest checkpoint: {f'step {kept[-1]}' if kept else 'none'})."
            )
    return rows


@contextlib.contextmanager
def _signals() -> Iterator[list[int]]:
    """A list that a first SIGTERM or Ctrl-C fills, to be read between steps; a second Ctrl-C interrupts at once."""
    caught: list[int] = []

    def note(number: int, frame: Any) -> None:
        if caught:
            raise KeyboardInterrupt
        caught.append(number)

    names = (signal.SIGTERM, signal.SIGINT)
    try:
        before = [signal.signal(name, note) for name in names]
    except ValueError:  # not the main thread: the caller handles signals
        yield caught
        return
    try:
        yield caught
    finally:
        for name, handler in zip(names, before, strict=True):
            signal.signal(name, handler)


def _leave(progress: Progress, step: int, number: int) -> None:
    progress.say(f"stopped at step {step}, which is saved: the same command goes on from there")
    raise SystemExit(128 + number)
