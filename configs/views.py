"""The block config.augment: how a cutout is changed into another view of the same object, data/augment.py."""

from ml_collections import config_dict

STEPS = ("extinction", "rotation", "scale", "blur", "crop", "noise")


def views() -> config_dict.ConfigDict:
    """The six augmentations of Stein et al. (2022), section 3.1 and Table 2; bands g, r, z.

    A law is the lognormal (shape, location, scale) of equation B3, one for each band where it has three.
    """
    augment = config_dict.ConfigDict()
    augment.steps = STEPS  # leave some out, or put "gain" first: the others keep their order
    augment.brightness, augment.colour = 0.5, 0.1  # of "gain": scatter in mag of all bands together, and of each
    augment.size = 96  # pixels of a view
    augment.jitter = 7  # pixels each way of the centre of the crop
    augment.scale = (0.9, 1.1)  # of the size, both axes alike
    augment.ebv = (0.67306, 0.001146, 0.03338)  # magnitudes
    augment.psf = (  # standard deviation, pixels
        (0.2109966, 1.0807153, 1.3153171),
        (0.3008485, 1.2394326, 0.9164757),
        (0.3471172, 1.1928363, 0.8233702),
    )
    augment.noise = (  # nanomaggies a pixel
        (0.2264926, -0.0006735, 0.0037602),
        (0.2431146, -0.0023663, 0.0067417),
        (0.1334844, -0.0143416, 0.0260779),
    )
    return augment
