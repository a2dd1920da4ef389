"""Contact sheet of mock cutouts in the colours of the survey's viewer: lenses on the left, other kinds on the right.

python benchmarks/lens_sheet.py [--out=docs/figures/lens_cutouts.png] [--input=CUTOUTS]

With --input, real cutouts (what `open_cutouts` takes) stand in a third block beside them, for whoever wants to compare;
such a sheet is not for publication unless the cutouts are.
"""

import argparse
import pathlib
import sys

import numpy as np

ROOT = pathlib.Path(__file__).parents[1]
SIDE = 10  # images along either axis of a block
SHOWN = 80  # pixels of an image: 21 arcsec
GAP = 12  # pixels between blocks
COLOURS, LEVELS = 256, 31  # of the palette: noise does not compress; steps of a colour, of those it is chosen from


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", default=ROOT / "docs" / "figures" / "lens_cutouts.png", type=pathlib.Path)
    parser.add_argument("--input", nargs="*", default=[])
    parser.add_argument("--seed", default=0, type=int)
    options = parser.parse_args()
    sys.path.insert(0, str(ROOT))
    blocks = [block(images) for images in draw(options.seed)]
    if options.input:
        from lensjax.surveys.cutouts import open_cutouts

        source = open_cutouts(options.input, SHOWN)
        blocks.append(block(source.read(np.resize(np.arange(len(source)), SIDE * SIDE))))
    save(options.out, blocks)


def draw(seed: int) -> list[np.ndarray]:
    """100 lenses and 100 others (100, S, S, 3), the first that the simulator draws."""
    import jax
    from ml_collections import config_dict

    from configs.cutouts import lenses
    from lensjax.sims.lenses import make_simulator

    config = config_dict.ConfigDict({"data": {"size": 96}})
    config.sim = lenses()
    batch = jax.jit(jax.vmap(make_simulator(config)))(jax.random.split(jax.random.key(seed), 3 * SIDE * SIDE))
    image, label = np.asarray(batch["image"]), np.asarray(batch["label"])
    start = (image.shape[1] - SHOWN) // 2
    image = image[:, start : start + SHOWN, start : start + SHOWN]
    return [image[label == wanted][: SIDE * SIDE] for wanted in (1, 0)]


def block(images: np.ndarray) -> np.ndarray:
    """(SIDE S, SIDE S, 3) colours of SIDE^2 images, north up."""
    from lensjax.surveys.viewer import to_rgb

    rgb = to_rgb(images)[:, ::-1].reshape(SIDE, SIDE, SHOWN, SHOWN, 3)
    return rgb.transpose(0, 2, 1, 3, 4).reshape(SIDE * SHOWN, SIDE * SHOWN, 3)


def save(path: pathlib.Path, blocks: list[np.ndarray]) -> None:
    """Write the blocks side by side as a PNG, with a palette that does as well by rare colours as by the sky's."""
    from PIL import Image

    white = np.ones((SIDE * SHOWN, GAP, 3))
    parts = [part for item in blocks for part in (white, item)][1:]
    pixels = np.concatenate(parts, axis=1)
    found = np.unique(np.round(pixels * LEVELS).astype(np.uint8).reshape(-1, 3), axis=0)
    palette = Image.fromarray(np.round(found[None] * (255 / LEVELS)).astype(np.uint8)).quantize(COLOURS)
    picture = Image.fromarray(np.round(pixels * 255).astype(np.uint8))
    picture.quantize(palette=palette, dither=Image.Dither.NONE).save(path, optimize=True)
    print(f"{path}: {path.stat().st_size / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
