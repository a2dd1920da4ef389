"""What a run tells its user: metrics.jsonl, the progress bar with the time left, curves.png."""

import json
import os
import pathlib
import sys
import time
from typing import Any

from tqdm import tqdm

from lensjax.core.files import replacing, write_text

Row = dict[str, Any]
PANELS = ("accuracy", "loss", "alignment", "uniformity", "rank", "std")  # of curves.png; the last four show a collapse
ABREAST = 3


def read_rows(path: str | os.PathLike) -> list[Row]:
    """The rows of a metrics.jsonl; [] where there is none. A line cut by a kill ends the reading."""
    rows = []
    path = pathlib.Path(path)
    for line in path.read_text().splitlines() if path.exists() else []:
        try:
            rows.append(json.loads(line))
        except ValueError:
            break
    return rows


class Progress:
    """A tqdm bar on a terminal; elsewhere a line of text at most every `seconds`, with the same time left."""

    def __init__(
        self,
        steps: int,
        start: int,
        label: str = "train",
        seconds: float = 10.0,
        silent: bool = False,
        unit: str = "step",
    ):
        self._seconds, self._spoke, self._label, self._unit = seconds, time.monotonic(), label, unit
        self._silent, self._plain = silent, not sys.stderr.isatty()
        hidden = silent or self._plain
        self._bar = tqdm(total=steps, initial=start, desc=label, unit=unit, file=sys.stderr, disable=hidden)
        self._steps, self._start, self._done, self._text = steps, start, start, ""
        self._began, self._untimed = time.monotonic(), start

    def note(self, text: str) -> None:
        """Numbers shown beside the bar from now on."""
        self._text = text
        self._bar.set_postfix_str(text, refresh=False)

    def advance(self, steps: int = 1) -> None:
        """That many more steps done."""
        if self._done == self._start:  # the first compiles, and tells no rate
            self._began, self._untimed = time.monotonic(), self._start + steps
        self._done += steps
        self._bar.update(steps)
        due = time.monotonic() - self._spoke > self._seconds or self._done == self._steps
        if self._plain and due:
            self._spoke = time.monotonic()
            self.say(self._line())

    def _line(self) -> str:
        line, timed = f"{self._label}: {self._unit} {self._done}/{self._steps}", self._done - self._untimed
        if timed > 0:
            rate = timed / max(time.monotonic() - self._began, 1e-9)
            line += f", {rate:.1f} {self._unit}/s, {tqdm.format_interval((self._steps - self._done) / rate)} left"
        return f"{line}, {self._text}" if self._text else line

    def say(self, line: str) -> None:
        """A line that stays, above the bar."""
        if not self._silent:
            tqdm.write(line, file=sys.stderr)
            sys.stderr.flush()

    def close(self) -> None:
        """Leave the bar as it is."""
        self._bar.close()


class Journal:
    """metrics.jsonl of a run. Rows after `step` are dropped on opening: a resumed run writes them again.

    Rows hold no clock, so that the file of a resumed run equals that of an undisturbed one. Of several processes, one
    `writes`.
    """

    def __init__(self, workdir: str | os.PathLike, step: int = 0, writes: bool = True):
        self.path = pathlib.Path(workdir) / "metrics.jsonl"
        self.rows = [row for row in read_rows(self.path) if row["step"] <= step]
        self._writes = writes
        if writes:
            write_text(self.path, "".join(map(_line, self.rows)))

    def write(self, **row: Any) -> None:
        """Append a row: step (optimiser steps done), split, epoch, and the metrics."""
        self.rows.append(row)
        if self._writes:
            with self.path.open("a") as file:
                file.write(_line(row))

    def last(self, split: str) -> Row | None:
        """The newest row of a split."""
        return next((row for row in reversed(self.rows) if row["split"] == split), None)

    def draw(self) -> pathlib.Path:
        """Write curves.png beside metrics.jsonl; returns its path."""
        path = self.path.with_name("curves.png")
        if self._writes:
            with replacing(path) as temporary:
                draw_curves(self.rows).savefig(temporary, dpi=120)
        return path


def _line(row: Row) -> str:
    return json.dumps(row) + "\n"


def draw_curves(rows: list[Row]) -> Any:
    """Figure of each of PANELS that there is, both splits against epoch; the first two are Figure 6 of Li et al. 2018.

    Of a training loss with further terms, rows with `focal`, that one is drawn: the loss of the test split is it alone.
    """
    from matplotlib.figure import Figure  # slow to import; a Figure without pyplot needs no display

    names = {"loss": "focal loss"} if any("focal" in row for row in rows) else {}
    rows = [{**row, "loss": row["focal"]} if "focal" in row else row for row in rows]
    panels = [name for name in PANELS if any(name in row for row in rows)] or ["loss"]
    across, down = min(len(panels), ABREAST), -(-len(panels) // ABREAST)
    figure = Figure(figsize=(4.5 * across, 3.4 * down), layout="constrained")
    axes = figure.subplots(down, across, squeeze=False).ravel()
    for axis in axes[len(panels) :]:
        axis.set_axis_off()
    for axis, name in zip(axes, panels, strict=False):
        for split in ("train", "test"):
            points = [(row["epoch"], row[name]) for row in rows if row["split"] == split and name in row]
            marker = "o" if split == "test" or len(points) < 2 else ""
            if points:
                axis.plot(*zip(*points, strict=True), label=split, marker=marker, markersize=3)
        axis.set(xlabel="epoch", ylabel=names.get(name, name))
        if axis.lines:
            axis.legend()
    return figure
