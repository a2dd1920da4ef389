"""The spectra of hits, read again from their files over the whole range of the instrument, in chunks."""

import itertools
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from lensjax.physics import grid
from lensjax.surveys import Block, read_block
from lensjax.surveys.tables import FIRST_BOSS_PLATE

Columns = dict[str, np.ndarray]
FIBERS_PER_SPECTROGRAPH = {True: 320, False: 500}  # of SDSS-I/II, of others: beyond, the next fiber is on another CCD


class Chunk(NamedTuple):
    """Some hits with their spectra.

    rows: (n,) which of the hits. flux, ivar, wdisp: (n, P). readable: (n,) bool; zeros where it is False.
    beside_flux, beside_ivar: (n, 2, P) the fibers before and behind on the slit; ivar 0 where the file has none.
    """

    rows: np.ndarray
    flux: np.ndarray
    ivar: np.ndarray
    wdisp: np.ndarray
    readable: np.ndarray
    beside_flux: np.ndarray
    beside_ivar: np.ndarray


def wide_window(config: Any) -> np.ndarray:
    """Grid (P,) that holds config.data.window and config.vet.window."""
    both = np.array([config.vet.window, config.data.window])
    return grid.window(both.min(), both.max())


def read_hits(hits: Columns, loglam: np.ndarray, size: int) -> Iterator[Chunk]:
    """Chunks of at most `size` hits, in order; one file and one chunk are in memory at a time.

    hits: columns file, row, plate, fiberid, (M,) each, rows of a file one behind the other. A spectrum that is gone,
    or not the one that was scored, costs its own row: readable is False.
    """
    parts: list[Chunk] = []
    for path, group in itertools.groupby(range(len(hits["file"])), key=lambda i: hits["file"][i]):
        block = read_block(path, loglam)
        wanted = list(group)
        while wanted:
            room = size - sum(len(part.rows) for part in parts)
            parts.append(_pick(block, hits, np.array(wanted[:room])))
            wanted = wanted[room:]
            if sum(len(part.rows) for part in parts) == size:
                yield _join(parts)
                parts = []
    if parts:
        yield _join(parts)


def _join(parts: list[Chunk]) -> Chunk:
    return Chunk(*(np.concatenate(column) for column in zip(*parts, strict=True)))


def _pick(block: Block, hits: Columns, rows: np.ndarray) -> Chunk:
    """The given hits out of the block of their file."""
    places = {int(row): place for place, row in enumerate(block.table["row"])}
    place = np.array([places.get(int(row), -1) for row in hits["row"][rows]])
    readable = (place >= 0) & block.has_data[place]
    for name in ("plate", "fiberid"):
        readable &= block.table[name][place] == hits[name][rows]
    flux, ivar, wdisp = (values[place] for values in (block.flux, block.ivar, block.wdisp))
    beside = np.stack([_beside(block, place, step) for step in (-1, 1)], axis=1)  # (n, 2)
    known = (beside >= 0)[..., None]
    return Chunk(
        rows,
        np.where(readable[:, None], flux, 0),
        np.where(readable[:, None], ivar, 0),
        wdisp,
        readable,
        np.where(known, block.flux[beside], 0),
        np.where(known, block.ivar[beside], 0),
    )


def _beside(block: Block, place: np.ndarray, step: int) -> np.ndarray:
    """Places (n,) in the block of the fibers `step` further on the same spectrograph; -1 where there are none."""
    fiber, plate = block.table["fiberid"], block.table["plate"]
    order = {(int(p), int(f)): i for i, (p, f) in enumerate(zip(plate, fiber, strict=True)) if f >= 0}
    out = np.full(len(place), -1)
    for n, i in enumerate(place):
        size = FIBERS_PER_SPECTROGRAPH[bool(0 <= plate[i] < FIRST_BOSS_PLATE)]
        first = int(plate[i] >= 0)  # DESI counts from 0
        if (fiber[i] - first) // size == (fiber[i] + step - first) // size:
            out[n] = order.get((int(plate[i]), int(fiber[i]) + step), -1)
    return out
