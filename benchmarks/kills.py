"""Killed at ten random moments and started again, build, train and search end as if they had not been disturbed.

    python benchmarks/kills.py [--kills 10] [--modes build train search]

Each mode runs once in peace, then again in another folder, killed with SIGKILL after a random share of the time that
the first run took, again and again, and at last left alone. The results are compared byte for byte; of data sets the
records, since two undisturbed builds already pack the same records into different bytes.
"""

import argparse
import hashlib
import pathlib
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator

ROOT = pathlib.Path(__file__).parents[1]
SETTINGS = {
    "build": ["--config.data.num_train=9000", "--config.data.num_test=1000", "--config.data.dir=DIR/tfds"],
    "train": ["--config.train.steps=200", "--config.train.checkpoint_every=10", "--config.train.eval_every=50"],
    "search": ["--config.search.input=PLATES", "--config.search.shard_rows=256", "--config.search.report_hits=0"],
}
RESULTS = {"build": "tfds/**/dataset_info.json", "train": "metrics.jsonl", "search": "scores.parquet"}


def command(mode: str, folder: pathlib.Path, plates: pathlib.Path) -> list[str]:
    """The command line of a mode in `folder`."""
    settings = [text.replace("DIR", str(folder)).replace("PLATES", str(plates)) for text in SETTINGS.get(mode, [])]
    start = [sys.executable, "run.py", "--config=configs/lya.py:smoke", f"--workdir={folder}", f"--mode={mode}"]
    return start + settings


def run(mode: str, folder: pathlib.Path, plates: pathlib.Path, kill_after: float | None = None) -> float:
    """Seconds that the command ran until it ended, or was killed; its failure ends this script."""
    begin = time.monotonic()
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE}
    with subprocess.Popen(command(mode, folder, plates), cwd=ROOT, **quiet) as process:
        try:
            _, errors = process.communicate(timeout=kill_after)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            return time.monotonic() - begin
    if process.returncode:
        raise SystemExit(f"{mode} failed:\n{errors.decode()[-2000:]}")
    return time.monotonic() - begin


def digest(folder: pathlib.Path, pattern: str) -> str:
    """One checksum over the files of `folder` that match."""
    files = sorted(path for path in folder.glob(pattern) if path.is_file())
    if not files:
        raise SystemExit(f"no {pattern} in {folder}")
    whole = hashlib.sha256()
    for path in files:
        whole.update(path.name.encode())
        for piece in records(path.parent) if path.name == "dataset_info.json" else [path.read_bytes()]:
            whole.update(piece)
    return whole.hexdigest()


def records(folder: pathlib.Path) -> Iterator[bytes]:
    """Every value of every record of the data set in `folder`, in order."""
    import numpy as np
    import tensorflow_datasets as tfds

    builder = tfds.builder_from_directory(str(folder))
    for split in sorted(builder.info.splits):
        source = builder.as_data_source(split=split)
        for first in range(0, len(source), 512):
            for row in source.__getitems__(range(first, min(first + 512, len(source)))):
                yield from (np.asarray(row[name]).tobytes() for name in sorted(row))


def main() -> None:
    """Print a line a mode; exit 1 if any differs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--modes", nargs="+", default=list(SETTINGS), choices=list(SETTINGS))
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    rng, failed = random.Random(arguments.seed), False
    with tempfile.TemporaryDirectory() as scratch:
        peace, storm = pathlib.Path(scratch, "peace"), pathlib.Path(scratch, "storm")
        plates = peace / "mock"
        for folder in (peace, storm):  # a trained network and plates to search, the same in both
            run("train", folder, plates)
        run("mock", peace, plates)
        for number in range(9000, 9010):
            for name in ("spPlate", "spZbest"):
                shutil.copy(plates / f"{name}-9999-60000.fits", plates / f"{name}-{number}-60000.fits")
        for mode in arguments.modes:
            for folder in (peace, storm):
                if mode == "train":
                    shutil.rmtree(folder / "checkpoints")
                    (folder / "metrics.jsonl").unlink()
            seconds = run(mode, peace, plates)
            for _ in range(arguments.kills):
                run(mode, storm, plates, kill_after=rng.uniform(0.2, 1.0) * seconds)
            run(mode, storm, plates)
            same = digest(peace, RESULTS[mode]) == digest(storm, RESULTS[mode])
            failed |= not same
            verdict = "the same bytes as" if same else "NOT THE SAME as"
            print(f"{mode}: {arguments.kills} kills in runs of {seconds:.0f} s: {verdict} an undisturbed run")
    sys.exit(failed)


if __name__ == "__main__":
    main()
