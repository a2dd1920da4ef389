"""What each --mode does: wiring alone. Heavy imports wait until their mode runs."""

import contextlib
import difflib
import os
import pathlib
import sys
from collections.abc import Callable, Iterator
from typing import Any

from lensjax.core.errors import UserError
from lensjax.core.locks import locked
from lensjax.core.ranges import check_ranges
from lensjax.core.settings import at_home


def train(config: Any, workdir: pathlib.Path) -> None:
    """Train, or go on training; print the last test metrics."""
    from lensjax.train import train

    metrics = train(config, workdir)
    shown = ", ".join(f"{name} {metrics[name]:.4g}" for name in sorted(metrics) if isinstance(metrics[name], float))
    print(f"{workdir}: trained to step {metrics['step']}: {shown}")


def build(config: Any, workdir: pathlib.Path) -> None:
    """Build the published data set under config.data.dir."""
    del workdir
    from lensjax.data.source import build

    print(build(config))


def evaluate(config: Any, workdir: pathlib.Path) -> None:
    """Compare the network with the matched filter and the oracle; a lens finder's rates at a survey's base rate."""
    if config.system in IMAGE_SYSTEMS:
        from lensjax.evaluate.lenses import evaluate_lenses

        evaluate_lenses(config, workdir)
        return
    from lensjax.evaluate import evaluate

    evaluate(config, workdir)


def mock(config: Any, workdir: pathlib.Path) -> None:
    """Write mock plates, with their truth beside them, into workdir/mock."""
    from lensjax.search.mock import write_mock_plates

    print(write_mock_plates(config, workdir / "mock"))


def search(config: Any, workdir: pathlib.Path) -> None:
    """Score the spectra of config.search.input."""
    from lensjax.search.score import search

    search(config, workdir)


def continua(config: Any, workdir: pathlib.Path) -> None:
    """Turn the spectra of config.search.input into workdir/continua.npz, of which mocks are made."""
    from lensjax.search.continua import build_continua

    build_continua(config, workdir)


def inject(config: Any, workdir: pathlib.Path) -> None:
    """Inject lines into the spectra of config.search.input, and say how many the search finds.

    Of images: write the galaxies of config.embed.input with and without an arc to workdir/injected.hdf5; where there is
    a finder (a trained network of "lens", a probe of "ssl"), also say which arcs it finds, completeness.fits. None of a
    former run, perhaps around other galaxies, stays beside it.
    """
    if config.system in IMAGE_SYSTEMS:
        from lensjax.data.inject_arcs import inject_arcs
        from lensjax.embed.completeness import FIGURE, NAME, has_finder, measure_completeness

        number = inject_arcs(config, config.embed.input, workdir / "injected.hdf5")
        print(f"{workdir / 'injected.hdf5'}: {number} galaxies, each with and without an arc")
        for name in (NAME, FIGURE):
            (workdir / name).unlink(missing_ok=True)
        if has_finder(config, workdir):
            measure_completeness(config, workdir)
        return
    from lensjax.search.inject import inject

    inject(config, workdir)


def convert(config: Any, workdir: pathlib.Path) -> None:
    """Turn the PyTorch checkpoint config.convert.input into workdir/weights.npz, which embed uses."""
    from lensjax.embed.encoder import convert

    print(convert(config, workdir))


def embed(config: Any, workdir: pathlib.Path) -> None:
    """Embed the cutouts of config.embed.input into workdir/embeddings."""
    from lensjax.embed.embed import embed

    embed(config, workdir)


def neighbours(config: Any, workdir: pathlib.Path) -> None:
    """Find the most similar objects of each, or of config.neighbours.queries, into workdir/neighbours.npz."""
    from lensjax.embed.neighbours import find_neighbours

    find_neighbours(config, workdir)


def probe(config: Any, workdir: pathlib.Path) -> None:
    """Train linear classifiers of the embeddings and rank every object, into workdir/probe."""
    from lensjax.embed.probe import probe

    probe(config, workdir)


def catalogue(config: Any, workdir: pathlib.Path) -> None:
    """Write the best objects, with links to look at them, as workdir/ranked.fits, .ecsv, .vot and .parquet."""
    from lensjax.embed.catalogue import export

    export(config, workdir)


def explore(config: Any, workdir: pathlib.Path) -> None:
    """Serve the web app of the workdir's embeddings on this machine: look, search, grade, export."""
    from lensjax.explore.app import explore

    explore(config, workdir)


def release(config: Any, workdir: pathlib.Path) -> None:
    """Write the best checkpoint as one small file, workdir/weights.npz, that search and numpy alone can open.

    Of the config inside, no folders of this machine are told (`settings.without_folders`).
    """
    from lensjax.core import settings
    from lensjax.core.checkpoint import restore_for_inference, save_weights

    trained, params, model_state = restore_for_inference(workdir)
    dtype = config.release.dtype  # all else is as they were trained
    print(save_weights(workdir, params, model_state, settings.without_folders(trained), dtype))


def fetch(config: Any, workdir: pathlib.Path) -> None:
    """Download public spectra into workdir/spectra, or cutouts into workdir/cutouts."""
    if config.system in IMAGE_SYSTEMS:
        from lensjax.surveys.fetch_cutouts import fetch_cutouts as fetch
    else:
        from lensjax.surveys.fetch import fetch

    print(fetch(config, workdir))


MODES: dict[str, Callable[[Any, pathlib.Path], None]] = {
    "train": train,
    "build": build,
    "evaluate": evaluate,
    "mock": mock,
    "search": search,
    "continua": continua,
    "inject": inject,
    "convert": convert,
    "embed": embed,
    "neighbours": neighbours,
    "probe": probe,
    "catalogue": catalogue,
    "explore": explore,
    "release": release,
    "fetch": fetch,
}


IMAGE_SYSTEMS = ("ssl", "lens")
OF_SPECTRA = ("mock", "search", "continua")
OF_IMAGES = ("convert", "embed", "neighbours", "probe", "catalogue", "explore")
# Modes that write a folder bit by bit -> the name of that work: a second process would remove or mix what is written.
EXCLUSIVE = {"train": "train", "search": "search", "inject": "search", "embed": "embed", "neighbours": "neighbours"}
EXCLUSIVE |= {"mock": "mock", "probe": "probe"}
FOREIGN = {"ssl": (*OF_SPECTRA, "evaluate"), "lens": (*OF_SPECTRA, "convert")}  # modes that a system lacks


def run(mode: str, config: Any, workdir: str | os.PathLike) -> None:
    """Run a mode. UserError for one that does not exist, with the nearest that does, or is of other systems; for a
    workdir that is none or in use, for numbers out of range, and where the output is closed early."""
    if mode not in MODES:
        near = difflib.get_close_matches(mode, MODES, n=1)
        meant = f"did you mean {near[0]}?" if near else f"expected one of {', '.join(MODES)}."
        raise UserError(f"there is no mode {mode!r}: {meant}")
    foreign = FOREIGN.get(config.system, OF_IMAGES)
    if mode in foreign:
        known = ", ".join(name for name in MODES if name not in foreign)
        raise UserError(f"--mode={mode} is not of the system {config.system!r}, whose modes are {known}: choose one.")
    config, folder = at_home(config), pathlib.Path(workdir).expanduser()
    if not os.fspath(workdir) or (folder.exists() and not folder.is_dir()):
        raise UserError(f"--workdir is {'a file' if os.fspath(workdir) else 'empty'}: give a folder, which may be new.")
    check_ranges(config)
    start_devices()
    split_cpu(mode, config)
    try:
        with alone(mode, folder):
            MODES[mode](config, folder)
        sys.stdout.flush()
    except BrokenPipeError:
        sys.stdout = None  # else Python complains when it flushes once more
        raise UserError("nobody reads the output, as behind `| head`: the same command goes on from there.") from None


@contextlib.contextmanager
def alone(mode: str, workdir: pathlib.Path) -> Iterator[None]:
    """One run at a time of a mode of EXCLUSIVE in a workdir, of however many processes; UserError for a second one.

    A new workdir that a mode leaves empty, as one with a mistyped name, is removed.
    """
    import jax

    if mode not in EXCLUSIVE or jax.process_index() > 0:
        yield
        return
    new = not workdir.exists()
    path = workdir / f".{EXCLUSIVE[mode]}.lock"
    try:
        workdir.mkdir(parents=True, exist_ok=True)
        path.touch()
    except OSError as error:
        raise UserError(f"{workdir} cannot be written ({error.strerror}): give another --workdir.") from None
    busy = f"another process runs --mode={EXCLUSIVE[mode]} in {workdir}: wait for it, or take another --workdir."
    with locked(path, busy):
        try:
            yield
        finally:
            path.unlink(missing_ok=True)
            if new and not any(workdir.iterdir()):
                workdir.rmdir()


def split_cpu(mode: str, config: Any) -> None:
    """A device for each core in the modes that are faster so: see `sharding.split_cpu`."""
    from lensjax.core import sharding

    if mode == "embed":
        sharding.split_cpu(config.embed.batch_size, config.model.chunk)
    elif mode in ("search", "inject") and config.system not in IMAGE_SYSTEMS:
        sharding.split_cpu(config.search.batch_size, config.model.chunk)
    elif mode == "train" and config.system == "ssl":
        sharding.split_cpu(config.moco.bn_groups, 1)


def start_devices() -> None:
    """Keep compiled programs between runs; join the other processes where JAX_COORDINATOR_ADDRESS is set.

    Their number and this one's come from JAX_NUM_PROCESSES and JAX_PROCESS_ID, else from SLURM, Open MPI or whatever
    else JAX knows. UserError where they cannot be had.
    """
    import jax

    from lensjax.core.compile import enable_cache

    enable_cache()
    if "JAX_COORDINATOR_ADDRESS" in os.environ:
        number, own = (os.environ.get(name) for name in ("JAX_NUM_PROCESSES", "JAX_PROCESS_ID"))
        try:
            jax.distributed.initialize(
                num_processes=None if number is None else int(number), process_id=None if own is None else int(own)
            )
        except ValueError as error:
            raise UserError(
                f"JAX_COORDINATOR_ADDRESS is set, and JAX says: {error} Set JAX_NUM_PROCESSES and JAX_PROCESS_ID too."
            ) from None
