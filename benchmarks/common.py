"""What the benchmarks share: rates, rounds that take turns, workers in processes of their own, mock plates.

JAX and PyTorch each keep a pool of threads that spin while they wait, so they never share a process here: a script
starts one worker for each and lets them work in turn. Rates on a shared machine wander by up to a factor of two between
runs; ratios of medians of interleaved rounds do not.

JAX is imported inside functions, since the workers of other libraries import this file too.
"""

import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys
import time
from collections.abc import Callable

BATCH = 256  # spectra of one scoring call, as config.search.batch_size
ROUNDS = 9
SECONDS = 1.0  # of one round


def rate(run: Callable[[], object], items: int, seconds: float = SECONDS) -> float:
    """Items a second, of run() that does `items` of them and returns when they are done; repeated for `seconds`."""
    start, calls = time.perf_counter(), 0
    while calls == 0 or time.perf_counter() - start < seconds:
        run()
        calls += 1
    return calls * items / (time.perf_counter() - start)


def warm_rate(run: Callable[[], object], items: int, seconds: float = SECONDS) -> float:
    """As `rate`, after half as long that does not count: for long runs, the first two or three of which, after other
    processes' turn, wait for memory that a virtual machine's host has taken back."""
    rate(run, items, seconds / 2)
    return rate(run, items, seconds)


def interleave(measures: dict[str, Callable[[], float]], rounds: int = ROUNDS) -> dict[str, float]:
    """Median of each measure over rounds A B C A B C ...; the first round warms up and does not count."""
    results: dict[str, list[float]] = {name: [] for name in measures}
    for i in range(rounds + 1):
        for name, measure in measures.items():
            value = measure()
            if i > 0:
                results[name].append(value)
    for name, values in results.items():
        form = ",.1f" if max(values) < 100 else ",.0f"
        median, least, most = (f"{f(values):{form}}" for f in (statistics.median, min, max))
        print(f"{name:48s} {median:>12s} /s   ({least} to {most})")
    return {name: statistics.median(values) for name, values in results.items()}


def claim(text: str, value: float, target: float, form: str = ",.0f", most: bool = False) -> None:
    """Print a claim, what was measured, and whether it holds; `most`: the target is an upper limit."""
    holds = value <= target if most else value >= target
    limit = "at most" if most else "at least"
    print(f"{'holds' if holds else 'FAILS'}: {text}: {value:{form}}, {limit} {target:{form}} wanted")


def search_path() -> str:
    """PYTHONPATH of other processes: this folder and the repository's root, before what it was."""
    here = pathlib.Path(__file__).parent
    return os.pathsep.join(filter(None, [str(here), str(here.parent), os.environ.get("PYTHONPATH", "")]))


class Worker:
    """Another process that measures when asked to, and idles otherwise; its side of the pipe is `serve`.

    Ours and theirs have large pages, as `run.py` has (core/pages.py).
    """

    def __init__(self, *command: str, python: str = sys.executable, environment: dict[str, str] | None = None):
        pages = {"GLIBC_TUNABLES": "glibc.malloc.hugetlb=1"}
        pipe = subprocess.PIPE
        environment = {**pages, **os.environ, "PYTHONPATH": search_path(), **(environment or {})}
        self.process = subprocess.Popen([python, *command], stdin=pipe, stdout=pipe, text=True, env=environment)
        self.names: list[str] = self._read()

    def measure(self, name: str) -> float:
        """The worker's measure of that name."""
        assert self.process.stdin is not None
        print(name, file=self.process.stdin, flush=True)
        return self._read()

    def _read(self):
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            sys.exit(f"{' '.join(map(str, self.process.args))} stopped; its message is above")
        return json.loads(line)

    def measures(self, prefix: str) -> dict[str, Callable[[], float]]:
        """All that it can measure, by name."""
        return {f"{prefix}: {name}": lambda name=name: self.measure(name) for name in self.names}

    def stop(self) -> None:
        self.process.communicate()


def serve(measures: dict[str, Callable[[], float]]) -> None:
    """Be a worker: announce the names of the measures, then answer each name on stdin with a number, until its end."""
    print(json.dumps(list(measures)), flush=True)
    for line in sys.stdin:
        print(json.dumps(measures[line.strip()]()), flush=True)


def torch_worker(case: str, folder: pathlib.Path, twin: str = "torch_resnet.py") -> Worker:
    """The PyTorch twin, by the interpreter that LENSJAX_TORCH_PYTHON names (default: this one)."""
    script = pathlib.Path(__file__).parent / "peers" / twin
    return Worker(str(script), case, str(folder), python=os.environ.get("LENSJAX_TORCH_PYTHON", sys.executable))


def network_case(config, num: int) -> tuple[object, dict, dict, dict]:
    """A network with weights that leave no term at zero: (task, params, model_state, `num` mocks), all on the host."""
    import jax
    import numpy as np

    from lensjax.data.batches import ORACLE, make_simulator
    from lensjax.tasks import make_task

    task = make_task(config)
    params, model_state, _ = jax.device_get(jax.jit(task.init)(jax.random.key(0)))
    rng = np.random.default_rng(0)
    params = jax.tree.map(lambda p: np.asarray(p + 0.05 * rng.normal(size=p.shape), np.float32), params)
    mocks = jax.device_get(jax.jit(jax.vmap(make_simulator(config)))(jax.random.split(jax.random.key(1), num)))
    return task, params, model_state, {name: x for name, x in mocks.items() if name not in ORACLE}


def channels(config, mocks: dict) -> dict:
    """What the network itself is given for these mocks: x (N, P, C), snr (N, P), mask (N, P)."""
    import jax

    from lensjax.tasks.classify import OBSERVED
    from lensjax.tasks.features import make_features

    features, constants = make_features(config)
    observed = {name: mocks[name] for name in OBSERVED}
    return jax.device_get(jax.jit(jax.vmap(lambda example: features(example, constants)))(observed))


def save_case(folder: pathlib.Path, config, params: dict, arrays: dict) -> None:
    """Weights, inputs and expected outputs for the PyTorch twin, which reads no lensjax."""
    import numpy as np
    from flax.traverse_util import flatten_dict

    settings = {**config.model.to_dict(), "gamma": config.loss.gamma, "locate_weight": config.loss.locate_weight}
    settings |= {"clip_norm": config.optim.clip_norm, "weight_decay": config.optim.weight_decay}
    (folder / "settings.json").write_text(json.dumps(settings))
    np.savez(folder / "weights.npz", **flatten_dict(params, sep="/"))
    np.savez(folder / "arrays.npz", **arrays)


def real_data_parser(about: str) -> argparse.ArgumentParser:
    """The flags of a script that needs real spectra; `about`: its docstring."""
    root = pathlib.Path(__file__).parents[1]
    parser = argparse.ArgumentParser(description=about.split("\n")[0])
    parser.add_argument("--data", default=os.environ.get("LENSJAX_DATA", str(root.parent / "shared" / "data")))
    parser.add_argument("--out", default=str(root / "runs" / "lya_real"))
    return parser


def real_data_folders(args: argparse.Namespace) -> tuple[pathlib.Path, pathlib.Path]:
    """(folder of real spectra, folder to write to); ends the script, in peace, where there are no real spectra."""
    data, out = pathlib.Path(args.data), pathlib.Path(args.out)
    if not data.is_dir():
        print(f"no folder of real data at {data}: nothing to check (give one with --data, or set LENSJAX_DATA)")
        raise SystemExit
    out.mkdir(parents=True, exist_ok=True)
    return data, out
