"""A search from spPlate files to scores.parquet: the default network, and the matched filter beside it.

As `run.py` does it, a device for each core, with large pages. `--peak FOLDER` instead searches that folder once and
prints the peak memory of this process, for memory.py.
"""

import argparse
import json
import os
import pathlib
import resource
import tempfile
import time

import common

from lensjax.core.pages import use_huge_pages

DIFFERENT = 10  # plates; more of them are hard links to these
FIBERS = 1000
START, PIXELS = 35502, 4600  # of a BOSS plate: 3550 to 10,240 A, most of it outside the window
LINES = 0.01  # of the spectra: a search is made for rare things
PAPER = 230  # spectra a second: Li et al. 2018


def write_plates(folder: pathlib.Path, number: int) -> None:
    """`number` plates of mocks in BOSS's layout, with their spZbest."""
    import jax
    import numpy as np

    from configs import lya
    from lensjax.data.batches import make_simulator
    from lensjax.physics import grid
    from lensjax.surveys import write_spplate

    config = lya.get_config()
    config.sim.line_fraction = LINES
    draw, first = jax.jit(jax.vmap(make_simulator(config))), grid.index0(grid.window(*config.data.window)) - START
    rng = np.random.default_rng(0)
    for plate in range(min(number, DIFFERENT)):
        mocks = jax.device_get(draw(jax.random.split(jax.random.key(plate), FIBERS)))
        flux, ivar = rng.normal(1, 1, (FIBERS, PIXELS)), np.ones((FIBERS, PIXELS))
        for whole, piece in ((flux, mocks["flux"]), (ivar, mocks["ivar"])):
            whole[:, first : first + piece.shape[1]] = piece
        table = {"z": mocks["z"], "class": "GALAXY", "objtype": "GALAXY", "ra": 0.0, "dec": 0.0}
        loglam = (START + np.arange(PIXELS)) * grid.STEP
        write_spplate(folder / f"spPlate-{1000 + plate}-55000.fits", loglam, flux, ivar, table)
    for plate in range(DIFFERENT, number):
        for kind in ("spPlate", "spZbest"):
            os.link(
                folder / f"{kind}-{1000 + plate % DIFFERENT}-55000.fits", folder / f"{kind}-{1000 + plate}-55000.fits"
            )


def make_scorer(config, name: str):
    """The scorer, compiled; the network's weights are its first ones, on which its speed does not depend."""
    import jax
    import numpy as np

    from lensjax.search import restore
    from lensjax.tasks import make_task

    config.search.scorer = name
    if name == "network":
        task = make_task(config)
        params, model_state, _ = jax.jit(task.init)(jax.random.key(0))
        scorer = restore._compiled(config, task.predict, params, model_state, "benchmark", restore.MESSAGES)
    else:
        scorer = restore.make_scorer(config, "none")
    spectra = np.ones((config.search.batch_size, len(scorer.loglam)), np.float32)
    batch = {"flux": spectra, "ivar": spectra, "wdisp": spectra, "z": spectra[:, 0]}
    jax.block_until_ready(scorer.predict(batch))
    return scorer


def search_once(plates: pathlib.Path, config, scorer) -> float:
    """Spectra a second, first file opened to table finished; the program is compiled before."""
    from lensjax.search.score import search

    config.search.input = str(plates)
    config.vet.enabled = False  # the claim is of scoring: vetting takes its time by the hit, not by the spectrum
    with tempfile.TemporaryDirectory() as workdir:
        start = time.perf_counter()
        counts = search(config, workdir, scorer)
        seconds = time.perf_counter() - start
    assert counts["scored"] == counts["rows"] > 0, counts
    return counts["rows"] / seconds


def peak(plates: pathlib.Path) -> None:
    """Print rate and peak resident memory (bytes) of one search by the network."""
    from configs import lya

    config = lya.get_config()
    found = search_once(plates, config, make_scorer(config, "network"))
    print(json.dumps({"rate": found, "peak": 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss}))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--plates", type=int, default=60, help=f"of {FIBERS} spectra; {DIFFERENT} differ, the rest repeat"
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--peak", type=pathlib.Path, metavar="FOLDER")
    arguments = parser.parse_args()
    from configs import lya
    from lensjax import modes
    from lensjax.core.compile import enable_cache

    enable_cache()
    modes.split_cpu("search", lya.get_config())
    if arguments.peak:
        return peak(arguments.peak)
    with tempfile.TemporaryDirectory() as folder:
        write_plates(pathlib.Path(folder), arguments.plates)
        measures = {}
        for name in ("network", "matched_filter"):
            config = lya.get_config()
            scorer = make_scorer(config, name)
            measures[name] = lambda config=config, scorer=scorer: search_once(pathlib.Path(folder), config, scorer)
        rates = common.interleave(measures, arguments.rounds)
    common.claim("spectra a second, files to table, by the network", rates["network"], 1500)
    common.claim("ratio to the rate that the paper gives", rates["network"] / PAPER, 10, ".1f")


if __name__ == "__main__":
    use_huge_pages()
    main()
