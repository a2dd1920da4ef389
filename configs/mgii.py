"""Mg II absorbers in the spectra of quasars (Zhao et al. 2019, MNRAS 487, 801)."""

from ml_collections import config_dict

from configs import absorption, common, quasars
from lensjax.core.errors import UserError

VARIANTS = ("default", "paper", "demo", "smoke")
CUTS = ("coverage", "fit", "weak", "ratio", "behind", "trough", "sky", "feii", "civ", "unsure")  # in this order


def get_config(variant: str = "default") -> config_dict.ConfigDict:
    """One page: data, model, loss, optimiser, selection.

    Variants: "default", the network that is released: every absorber with its place; "paper", the recipe and the
    network of Zhao et al. (2019): yes or no; "demo", minutes on two cores; "smoke", seconds.
    """
    if variant not in VARIANTS:
        raise UserError(f"configs/mgii.py has no variant {variant!r}: expected one of {', '.join(VARIANTS)}")
    config = default()
    config.variant = variant
    return {"default": lambda c: c, "paper": paper, "demo": demo, "smoke": smoke}[variant](config)


def default() -> config_dict.ConfigDict:
    """Continuum residual, errors, masks and the S/N of lines and doublets in; fresh mocks."""
    config = common.spectra()
    config.system = "mgii"
    config.variant = "default"

    config.data = config_dict.ConfigDict()
    config.data.source = "simulate"  # fresh mocks, "tfds" (the published set), "absorbers" (a survey, its catalogue)
    config.data.dataset = "mgii_spectra"
    config.data.dir = "tensorflow_datasets"
    config.data.twins = False  # fresh mocks for training in pairs: with absorbers and without, else the same
    config.data.num_train = 80_000
    config.data.num_test = 20_000
    config.data.window = (3799.0, 9200.0)  # Angstrom, vacuum: 3841 pixels
    config.data.absorbers = quasars.absorber_catalogue()

    config.sim = quasars.simulation()

    config.model = config_dict.ConfigDict()
    config.model.name = "resnet1d"
    config.model.channels = ("residual", "line", "doublet", "civ", "support", "rivals", "log_error", "mask", "window")
    config.model.channels += ("continuum", "scale", "sky", "rest")
    config.model.widths = (48, 48, 48, 48)
    config.model.templates = 10  # of the continuum fit: the mean quasar and axes of the scatter about it
    config.model.kernel_size = 3
    config.model.first_size = 0  # pixels of the first kernels of the paper's networks; 0: their own
    config.model.width = 0  # channels of their first layers; 0: their own
    config.model.fold = 16  # pixels laid side by side as channels
    config.model.norm = "none"
    config.model.dropout = 0.1
    config.model.locate = True  # the head that says where absorbers are
    config.model.correct = False  # the score is that of the pixels alone, so that each absorber has its own
    config.model.dtype = "float32"
    config.model.chunk = 32

    config.loss = config_dict.ConfigDict()
    config.loss.gamma = 0.0  # cross-entropy
    config.loss.locate_weight = 0.2
    config.loss.rest_weight = 0.5  # of the absorbers besides the strongest

    config.evaluate = config_dict.ConfigDict()
    config.evaluate.num = 20_000
    config.evaluate.seed = 2018  # of the mocks: the same for every network, whatever config.seed it was trained with
    config.evaluate.fpr = (0.01, 0.001)
    config.evaluate.threshold = 0.5
    config.evaluate.purity = 0.991  # at which completeness is told: that of Napolitano et al. (2023)

    config.select = config_dict.ConfigDict()
    config.select.z_min = 0.36  # below, no Mg II of the quasar's past is in the window
    config.select.object_class = "QSO"
    config.select.drop_subclasses = ()
    config.select.drop_starburst = False
    config.select.clean_redshift = True

    config.continua.update(dict(vectors=20, smooth=3.0))  # Zhao et al. 2019, section 2.2; quasars are smooth
    config.search.batch_size = 128
    config.search.doublet_filter = absorption.doublet_filter()  # the traditional search, search/doublet_filter.py
    config.vet = absorption.vetting()
    config.vet.cuts = CUTS
    config.inject.update(absorption.injection())
    config.mock = absorption.mocks()
    config.train.update(dict(batch_size=64, chunk=32, steps=7_000, eval_every=1_000, checkpoint_every=500))
    return config


def paper(config: config_dict.ConfigDict) -> config_dict.ConfigDict:
    """Zhao et al. (2019): the scaled flux alone, their network, 80,000 artificial spectra, cross-entropy, Adam."""
    config.data.source = "tfds"
    config.sim.update(quasars.paper_simulation())
    config.model.update(dict(name="cnn1d", channels=("flux",), fold=1, locate=False, first_size=15, dropout=0.5))
    config.optim.update(dict(name="adam", learning_rate=4e-4, warmup_steps=200))
    config.train.update(dict(batch_size=64, chunk=64, steps=20 * config.data.num_train // 64, eval_every=1_000))
    return config


def demo(config: config_dict.ConfigDict) -> config_dict.ConfigDict:
    """The default network, 38,400 mocks: minutes on two cores."""
    config.data.num_test = 1_024
    config.train.update(dict(steps=600, eval_every=300, checkpoint_every=200, log_every=20))
    config.optim.warmup_steps = 50
    config.evaluate.num = 2_048
    config.inject.lines = 2_000
    config.mock.fibers = 400
    return config


def smoke(config: config_dict.ConfigDict) -> config_dict.ConfigDict:
    """A tiny network, a handful of spectra."""
    config = common.smoke(config)
    config.data.window = (5000.0, 6500.0)
    config.model.update(dict(widths=(4, 4, 4, 4), fold=16, templates=4))
    config.evaluate.num = 64
    return config
