"""A survey's cutouts in, workdir/embeddings out: streamed, a chunk at a time, from where a killed run stopped.

In memory: the chunk that is being written, and AHEAD batches of cutouts; at the end the objects' table. Of several
processes each embeds the chunks whose number it is responsible for, and the last one there joins them.
"""

import collections
import concurrent.futures
import hashlib
import pathlib
import sys
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np

import lensjax
from lensjax.core.errors import UserError
from lensjax.core.files import stamp
from lensjax.core.journal import Progress
from lensjax.data.cutouts import GRZ, check_bands, wanted_bands
from lensjax.embed import linear
from lensjax.embed.encoder import Encoder, make_encoder
from lensjax.embed.mocks import MockSource
from lensjax.embed.store import FOLDER, SUMMARY, Chunks

AHEAD = 2  # batches that are read, and batches that the device works on, beyond the one in hand
DTYPES = {"float16": np.float16, "float32": np.float32}


def embed(
    config: Any, workdir: str | pathlib.Path, encoder: Encoder | None = None, source: Any = None
) -> dict[str, int]:
    """Embed every cutout of config.embed.input (mocks where that is empty); prints one line about it.

    A finished run of the same input, weights and settings is recognised and not repeated; one that was killed goes on
    behind its last whole chunk. Objects without a finite image get NaN and a status that says so. An encoder with a
    last layer that tells lenses also gives every object a score, 0 to 1.
    encoder, source: stand in for the config's; a source has len(), table() -> dict of columns (with file), read(rows)
    -> images (n, H, H, B) and perhaps stamp, a text that changes with the data, and bands, a letter each. Returns
    counts: rows, embedded. UserError for images in other bands than the encoder's.
    """
    dtype = _dtype(config.embed.dtype)
    encoder = encoder or make_encoder(config, workdir)
    source = open_source(encoder.config) if source is None else source
    check_bands(source, encoder.config)
    size = -(-config.embed.chunk_rows // config.embed.batch_size) * config.embed.batch_size
    fingerprint = _fingerprint(config, encoder, source, size)
    chunks = Chunks(pathlib.Path(workdir) / FOLDER, len(source), size, fingerprint)
    if chunks.replaced:
        print("embed: input, weights or settings changed since the last time: starting anew", file=sys.stderr)
    mine = [i for i in chunks.missing() if i % jax.process_count() == jax.process_index()]
    progress = Progress(chunks.count(), chunks.count() - len(mine), "embed", silent=jax.process_index() > 0)
    for number in mine:
        values = _embed_rows(source, encoder, chunks.span(number), config.embed.batch_size)
        chunks.write(number, values.astype(dtype))
        progress.advance()
    progress.close()
    if not chunks.missing() and not (chunks.folder / SUMMARY).exists():
        if len(mine) < chunks.count():
            _look_again(source, chunks, config.embed.batch_size)
        about = {"dtype": config.embed.dtype, "weights": encoder.identity}
        if not config.embed.input:
            about["mocks"] = getattr(source, "stamp", "")
        chunks.finish(source.table() | _scores(chunks, encoder), about, getattr(source, "bands", GRZ))
    embedded = sum(int(np.isfinite(np.load(p, mmap_mode="r")[:, 0]).sum()) for p in chunks.folder.glob("part-*.npy"))
    print(f"{chunks.folder}: {len(source)} objects, {embedded} embedded")
    return {"rows": len(source), "embedded": embedded}


def open_source(config: Any) -> Any:
    """The cutouts of config.embed.input, or mocks where it is empty."""
    if not config.embed.input:
        return MockSource(config)
    from lensjax.surveys.cutouts import open_cutouts

    return open_cutouts(config.embed.input, config.augment.size, bands=wanted_bands(config))


def _dtype(name: str) -> Any:
    if name not in DTYPES:
        raise UserError(f"config.embed.dtype is {name!r}: expected one of {', '.join(DTYPES)}.")
    return DTYPES[name]


def _fingerprint(config: Any, encoder: Encoder, source: Any, size: int) -> str:
    data = source.stamp if hasattr(source, "stamp") else [stamp(path) for path in np.unique(source.table()["file"])]
    parts = (lensjax.__version__, encoder.identity, data, len(source), size, config.embed.dtype)
    return hashlib.sha256(repr(parts).encode(errors="surrogateescape")).hexdigest()


def _embed_rows(source: Any, encoder: Encoder, rows: range, size: int) -> np.ndarray:
    """(n, D) float32 of the rows; NaN where an image is not finite."""
    parts, flying = [], collections.deque()
    for images in _read_ahead(source, rows, size):
        flying.append(_dispatch(encoder, images, size))
        if len(flying) > AHEAD:
            parts.append(_collect(*flying.popleft()))
    parts += [_collect(*item) for item in flying]
    return np.concatenate(parts)


def _look_again(source: Any, chunks: Chunks, size: int) -> None:
    """Read once more what has no embedding: only the process that read an image knows what was wrong with it."""
    for number in range(chunks.count()):
        lost = np.flatnonzero(~np.isfinite(np.load(chunks.path(number), mmap_mode="r")[:, 0]))
        for start in range(0, len(lost), size):
            source.read(chunks.span(number).start + lost[start : start + size])


def _scores(chunks: Chunks, encoder: Encoder) -> dict[str, np.ndarray]:
    """score (N,) of all chunks, where the encoder has a last layer that tells lenses."""
    if encoder.finder is None:
        return {}
    parts = [linear.probability([encoder.finder], np.load(chunks.path(i))) for i in range(chunks.count())]
    return {"score": np.concatenate(parts).astype(np.float32)}


def _read_ahead(source: Any, rows: range, size: int) -> Iterator[np.ndarray]:
    """Images of `size` rows at a time (the last may be fewer), read by a thread AHEAD of them."""
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        waiting = collections.deque()
        for start in range(rows.start, rows.stop, size):
            waiting.append(pool.submit(source.read, np.arange(start, min(start + size, rows.stop))))
            if len(waiting) > AHEAD:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def _dispatch(encoder: Encoder, images: np.ndarray, size: int) -> tuple[jax.Array, np.ndarray]:
    """(embeddings of a whole batch on the device, which of its first rows are good)."""
    good = np.asarray(np.isfinite(images).all(axis=(1, 2, 3)))
    batch = np.zeros((size, *images.shape[1:]), np.float32)
    batch[: len(images)] = np.where(good[:, None, None, None], images, 0)
    return encoder.embed(batch), good


def _collect(embedding: jax.Array, good: np.ndarray) -> np.ndarray:
    return np.where(good[:, None], np.asarray(embedding)[: len(good)], np.nan)
