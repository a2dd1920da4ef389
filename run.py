"""Find rare objects: configs/lya.py and mgii.py in spectra, ssl.py and lens.py in images.
  python run.py --config=configs/lya.py --workdir=runs/x --mode=search --config.search.input=FOLDER
Modes: train (default), evaluate, build (write the mocks as a TFDS set), fetch (download spectra or cutouts), inject
(completeness in your own data), release (the best checkpoint as one file); spectra: search, mock (plates to search),
continua (of your own objects, for mocks); images: embed, neighbours, probe, catalogue, explore (the web app), convert
(a PyTorch encoder). A variant follows a colon, configs/lya.py:demo. Any setting is a flag, --config.KEY=VALUE.
"""

import pathlib
import re
import sys
from typing import NoReturn

from absl import app, flags, logging
from ml_collections import config_flags

from lensjax import modes
from lensjax.core import errors, pages

CONFIG = config_flags.DEFINE_config_file("config", None, "configs/NAME.py[:variant], required")
WORKDIR = flags.DEFINE_string("workdir", None, "folder that this run writes and later modes read, required")
MODE = flags.DEFINE_string("mode", "train", "what to do")
flags.mark_flags_as_required(["config", "workdir"])


def stop(sentence: str, code: int = 2) -> NoReturn:
    """One line for the user, and the exit code."""
    print(f"lensjax: {sentence}", file=sys.stderr)
    sys.exit(code)


def parse(argv: list[str]) -> list[str]:
    """Parsed flags, the config locked; what is wrong with them ends the program in one sentence."""
    path = re.search(r"^--?config[=\n]([^:\n]+)", "\n".join(argv), re.M)
    if path and not pathlib.Path(path[1]).is_file():
        stop(f"no config file {path[1]}: expected a path from the current folder, such as configs/lya.py.")
    try:
        rest = flags.FLAGS(argv)
    except (flags.Error, AttributeError, KeyError, TypeError, ValueError) as error:
        text = next((str(e.args[0]) for e in (*error.args, error) if isinstance(e, Exception) and e.args), str(error))
        text = text.splitlines()[-1].partition(": ")[2] if "Traceback" in text else text  # of the config file itself
        stop("wrong flag or setting: " + " ".join(text.split()))
    if rest[1:]:
        stop(f"{rest[1]!r} is not a flag: settings are written --config.KEY=VALUE.")
    return rest


def main(_: list[str]) -> None:
    logging.set_verbosity(logging.ERROR)  # Orbax and TFDS tell their inner life otherwise
    try:
        modes.run(MODE.value, CONFIG.value, WORKDIR.value or "")
    except (errors.UserError, OSError) as error:
        stop(str(error))
    except KeyboardInterrupt:
        stop("interrupted: the same command goes on from what is done.", 130)


if __name__ == "__main__":
    pages.use_huge_pages()
    app.run(main, flags_parser=parse)
