"""Lyman-alpha emitters behind BOSS and DESI galaxies (Li et al. 2018, MNRAS 482, 313)."""

from ml_collections import config_dict

from configs import common
from lensjax.core.errors import UserError

VARIANTS = ("default", "paper", "taught", "threeclass", "redshift", "demo", "smoke")


def get_config(variant: str = "default") -> config_dict.ConfigDict:
    """One page: data, model, loss, optimiser, selection.

    Variants: "default", the network whose weights are released (after more steps: weights/lya); "paper", the recipe of
    Li et al. (2018), flux alone; "taught", flux alone too, and the odds that the simulator knows in place of labels;
    "threeclass", no line, blue tail, red tail, and "redshift", the whole spectrum and the redshift of the source (the
    wishes of the same paper); "demo", minutes on two cores; "smoke", seconds.
    """
    if variant not in VARIANTS:
        raise UserError(f"configs/lya.py has no variant {variant!r}: expected one of {', '.join(VARIANTS)}")
    config = default()
    config.variant = variant
    change = {"default": lambda c: c, "paper": paper, "taught": taught, "threeclass": threeclass}
    change |= {"redshift": redshift, "demo": demo, "smoke": smoke}
    return change[variant](config)


def default() -> config_dict.ConfigDict:
    """Template residual, errors, masks and filter S/N in; 12,000 batches of 128 fresh mocks."""
    config = common.spectra()
    config.system = "lya"
    config.variant = "default"

    # Data: the published TFDS set, or ever fresh mocks of the same simulator, drawn on the device.
    config.data = config_dict.ConfigDict()
    config.data.source = "simulate"  # "simulate" (fresh mocks) or "tfds" (the published set)
    config.data.dataset = "lya_spectra"
    config.data.dir = "tensorflow_datasets"
    config.data.twins = False  # fresh mocks for training in pairs: with a line and without, else the same
    config.data.num_train = 135_000
    config.data.num_test = 15_000
    config.data.window = (3800.0, 5000.0)  # Angstrom, vacuum: 1192 pixels
    # Lines of the lens, at rest: not searched, 10 pixels each way.
    config.data.masked_lines = (3346.8, 3426.8, 3728.48, 3869.9)

    # Simulator, sims/lya.py. Every law is named in its docstring.
    config.sim = config_dict.ConfigDict()
    config.sim.continuum = "passive"  # shipped; or a file: continua.npz, spEigenGal-*.fits (model.templates 4)
    config.sim.num_eigenvectors = 6
    config.sim.redshift = (0.3, 0.9)
    config.sim.line_fraction = 0.3
    config.sim.line_law = "snr"  # "snr" (uniform matched-filter S/N), "lesser" (Cao et al. 2020), "paper" (peak > 1.5)
    config.sim.line_profile = "skewnormal"  # or "gaussian"
    config.sim.mirror_fraction = 0.1  # of the skew normals have their tail on the blue side
    config.sim.snr_range = (3.0, 20.0)
    config.sim.oii_fraction = 0.0  # of the lines: background [OII] emitters instead of Lyman-alpha
    config.sim.whole_range = False  # spectra of both arms, sims/whole.py, instead of sims/lya.py's
    config.sim.dirt = 1.0  # 0 clean; 1 as dirty as real data: spikes, airglow, wrong errors, misfit
    config.sim.clean_fraction = 0.5  # of the objects have no dirt; the rest uniformly between none and config.sim.dirt

    config.model = config_dict.ConfigDict()
    config.model.name = "resnet1d"
    config.model.channels = ("residual", "snr", "log_error", "mask", "continuum", "scale", "veto")
    config.model.widths = (24, 24, 32, 32, 48, 48, 64, 64)  # of the 8 blocks; at most four changes, the first included
    config.model.templates = 6  # of the continuum fit: the mean galaxy and axes of the scatter about it
    config.model.kernel_size = 3
    config.model.fold = 4  # pixels laid side by side as channels: the first kernel spans 12 pixels in steps of 4
    config.model.norm = "none"  # or "batch"
    config.model.dropout = 0.1
    config.model.locate = True  # the head that says where the line is
    config.model.guided = True  # that head starts as the matched filter; False: it is given no filter's S/N
    config.model.kinds = ""  # two kinds of line that the head also tells apart: "skew" (red, blue tail), "oii"
    config.model.dtype = "float32"  # or "bfloat16": pays on GPUs, not on CPUs
    config.model.chunk = 32  # spectra of one pass at inference on CPUs, which like their caches full; 0: all

    config.loss = config_dict.ConfigDict()
    config.loss.gamma = 2.0  # Lin et al. 2017; the exponent of Li et al. 2018 eq. 1 is misprinted
    config.loss.focal_weight = 1.0
    config.loss.locate_weight = 0.2
    # Of the distance to the odds that the simulator knows (tasks/teacher.py: clean mocks, Gaussian lines), where
    # `prior` of all spectra have a line, of fluxes by `law` ("paper" or "lesser"); 0: labels alone teach.
    config.loss.teach_weight = 0.0
    config.loss.soft_weight = 0.0  # with it: of the cross-entropy with the probability that these odds mean
    config.loss.prior = 1 / 15
    config.loss.law = "paper"
    config.loss.kind_weight = 0.2

    config.evaluate = config_dict.ConfigDict()
    config.evaluate.num = 20_000
    config.evaluate.seed = 2018  # of the mocks: the same for every network, whatever config.seed it was trained with
    config.evaluate.fpr = (0.01, 0.001)
    config.evaluate.threshold = 0.5

    # Which objects of a survey are searched: Li et al. 2018, section 3.2.
    config.select = config_dict.ConfigDict()
    config.select.z_min = 0.3
    config.select.object_class = "GALAXY"
    config.select.drop_subclasses = ("STARFORMING", "BROADLINE", "AGN")  # looked for as substrings
    config.select.drop_starburst = True
    config.select.clean_redshift = True  # ZWARNING 0 only
    config.train.update(dict(chunk=16, steps=12_000, eval_every=2_000, checkpoint_every=1_000))
    return config


def paper(config: config_dict.ConfigDict) -> config_dict.ConfigDict:
    """Li et al. (2018), section 3: flux alone, Gaussian lines in one of 15 of 150,000 fixed spectra, 20 epochs."""
    config.data.source = "tfds"
    config.sim.update(dict(line_fraction=1 / 15, line_law="paper", line_profile="gaussian", dirt=0.0))
    config.model.update(dict(channels=("flux",), fold=1, norm="batch", locate=False))
    config.train.steps = 20 * config.data.num_train // config.train.batch_size
    return config


def taught(config: config_dict.ConfigDict) -> config_dict.ConfigDict:
    """Flux alone, as in "paper"; mocks teach their odds (tasks/teacher.py), whatever their mixture: most are faint."""
    config = paper(config)
    config.data.source = "simulate"
    config.sim.update(dict(line_law="snr", snr_range=(2.5, 8.0), line_fraction=0.7))
    config.model.channels = ("flux", "scaled", "blind")
    config.model.update(dict(widths=(64, 64, 64, 64, 64, 64, 96, 96), fold=4, norm="none"))
    config.model.update(dict(locate=True, guided=False, dropout=0.0))
    config.loss.update(dict(teach_weight=1.0, focal_weight=0.0, locate_weight=0.0))
    config.train.steps = config.train.eval_every = 12_000  # metrics of this mixture choose no step: the last
    return config


def threeclass(config: config_dict.ConfigDict) -> config_dict.ConfigDict:
    """The default network, which also says on which side the line's tail is: as many blue tails as red in training."""
    config.model.kinds = "skew"
    config.sim.mirror_fraction = 0.5
    return config


def redshift(config: config_dict.ConfigDict) -> config_dict.ConfigDict:
    """The whole spectrum: is there a line, is it Lyman-alpha or [OII] with its companions, and at which redshift?"""
    config.data.window = (3600.0, 9800.0)  # 4349 pixels
    red = (3889.9, 3969.6, 4102.9, 4341.7, 4862.7, 4960.3, 5008.2, 5877.2, 6302.0, 6549.9, 6564.6, 6585.3)
    config.data.masked_lines = (*config.data.masked_lines, *red, 6718.3, 6732.7)
    config.sim.update(dict(whole_range=True, line_fraction=0.4, oii_fraction=0.5))
    channels = ("residual", "snr", "companions", "log_error", "mask", "continuum", "scale", "veto")
    config.model.update(dict(channels=channels, templates=10, fold=8, kinds="oii", chunk=8))
    config.inject.edges.wave = (3600.0, 4200.0, 5000.0, 5800.0, 6600.0, 7400.0, 8200.0, 9000.0, 9800.0)
    config.train.update(dict(batch_size=64, chunk=8, steps=6_000))
    return config


def demo(config: config_dict.ConfigDict) -> config_dict.ConfigDict:
    """The default network, 64,000 mocks: minutes on two cores."""
    config.data.num_test = 2_048
    config.mock.update(dict(lya_rate=0.03, oii_rate=0.03))  # more to look at than a survey has
    config.train.update(dict(steps=500, eval_every=250, checkpoint_every=125, log_every=20))
    config.optim.warmup_steps = 50
    config.evaluate.num = 8_192
    return config


def smoke(config: config_dict.ConfigDict) -> config_dict.ConfigDict:
    """A tiny network, a handful of spectra."""
    config = common.smoke(config)
    config.model.update(dict(widths=(4,) * 8, fold=8))
    config.evaluate.num = 64
    return config
