"""Lens finding with labels: an encoder fine-tuned, or trained from scratch (Stein et al. 2022, section 3.4)."""

from ml_collections import config_dict

from configs import common, ssl
from lensjax.core.errors import UserError

SHARED = ("sim", "augment", "model", "fetch_cutouts", "embed", "neighbours", "probe")
SHARED += ("catalogue", "completeness", "explore")
VARIANTS = ("default", "scratch", "demo", "smoke")


def get_config(variant: str = "default") -> config_dict.ConfigDict:
    """One page: data, views, encoder, fine-tuning, evaluation, catalogue.

    Variants: "default", the paper's fine-tuning of a ResNet50, which --config.finetune.encoder names; "scratch", the
    same from random weights; "demo", the released small encoder on mocks, minutes on two cores; "smoke", seconds.
    """
    if variant not in VARIANTS:
        raise UserError(f"configs/lens.py has no variant {variant!r}: expected one of {', '.join(VARIANTS)}")
    config = default()
    config.variant = variant
    change = {"default": lambda c: c, "scratch": scratch, "demo": demo, "smoke": smoke}
    return change[variant](config)


def default() -> config_dict.ConfigDict:
    """ResNet50 from config.finetune.encoder, 40 epochs of 50,000 cutouts, lenses one in twenty of a batch."""
    config = common.common()
    config.system = "lens"
    config.variant = "default"

    # Data: labelled cutouts (a column label: 1 a lens, 0 none), the published mocks, or ever fresh mocks.
    config.data = config_dict.ConfigDict()
    config.data.source = "simulate"  # "cutouts" (config.data.input), "tfds" (the published mocks) or "simulate"
    config.data.input = ""  # HDF5 file, folder or glob of cutouts, as --mode=inject writes them
    config.data.dataset = "lens_cutouts"
    config.data.dir = "tensorflow_datasets"
    config.data.num_train = 50_000
    config.data.num_test = 4_096
    config.data.mag_max = 20.0  # of "cutouts": z magnitude of the faintest to train on
    config.data.uniform_mag = False  # of "cutouts": every magnitude as often
    config.data.size = 152  # pixels; room for rotation and jitter around the view
    config.data.lens_share = 0.05  # of a batch, drawn with repetition; 0: as many as there are. Not of "simulate"

    base = ssl.default()  # the encoder's system: its mocks, views, network, and what ranks objects
    for block in SHARED:
        config[block] = base[block]
    config.sim.lens_fraction = 0.05

    config.finetune = config_dict.ConfigDict()
    config.finetune.encoder = "weights/ssl"  # folder of an ssl run or of weights, of config.model; empty: from scratch
    config.loss = config_dict.ConfigDict({"gamma": 0.0})  # of the focal loss; 0: the cross-entropy
    config.loss.likeness_weight = 0.0  # of a loss by which lenses become alike; 0: none, as in the paper
    config.loss.temperature = 0.1  # of that loss

    config.train.update(dict(steps=15_600, batch_size=128, eval_every=1_000, checkpoint_every=500))
    config.train.update(dict(best_metric="average_precision", best_mode="max"))
    config.optim.update(dict(name="sgd", learning_rate=0.01, warmup_steps=0, clip_norm=0.0))
    config.optim.momentum = 0.9
    config.optim.encoder_factor = 0.1  # of the learning rate, for the encoder

    config.evaluate = evaluation()
    return config


def evaluation() -> config_dict.ConfigDict:
    """The block config.evaluate: mocks, or labelled cutouts, that the network has not seen; evaluate/lenses.py."""
    evaluate = config_dict.ConfigDict()
    evaluate.input = ""  # labelled cutouts; empty: mocks
    evaluate.num = 40_000  # of those mocks
    evaluate.lens_fraction = 0.25  # of those mocks
    evaluate.threshold = 0.5  # of the score of a candidate, for the plain metrics
    evaluate.fpr = (1e-2, 1e-3, 1e-4)  # rates at which the share of lenses that are found is given
    evaluate.base_rate = 1e-4  # lenses among a survey's objects, to which the scores are reweighted
    evaluate.survey = 1_000_000  # objects of that survey,
    evaluate.inspected = (10, 100, 1_000)  # and how many of the best are looked at
    evaluate.resamples = 200  # of the bootstrap
    return evaluate


def scratch(config: config_dict.ConfigDict) -> config_dict.ConfigDict:
    """Random weights, which take one learning rate."""
    config.finetune.encoder = ""
    config.optim.update(dict(learning_rate=0.03, encoder_factor=1.0, warmup_steps=500))
    return config


def demo(config: config_dict.ConfigDict) -> config_dict.ConfigDict:
    """The released encoder, on the mocks that configs/ssl.py:demo is trained on, which are built once."""
    small = ssl.get_config("demo")
    for block in ("data", "augment", "model", "sim", "embed", "neighbours", "probe"):
        config[block].update(small[block].to_dict())
    config.data.uniform_mag = False  # no labelled object is left out
    config.train.update(dict(steps=600, batch_size=128, log_every=20, eval_every=200, checkpoint_every=100))
    config.optim.update(dict(name="adamw", learning_rate=2e-3, encoder_factor=0.3, warmup_steps=50, clip_norm=1.0))
    config.data.lens_share = 0.3
    config.loss.likeness_weight = 1.0
    config.evaluate.update(dict(num=12_000, lens_fraction=0.15))
    return config


def smoke(config: config_dict.ConfigDict) -> config_dict.ConfigDict:
    """A tiny network from scratch, a handful of cutouts."""
    small = ssl.get_config("smoke")
    for block in ("augment", "model", "embed", "neighbours", "probe"):
        config[block].update(small[block].to_dict())
    config = common.smoke(config)
    config.data.size = small.data.size
    config.finetune.encoder, config.optim.warmup_steps = "", 0
    config.sim.lens_fraction = 0.4
    config.evaluate.update(dict(num=48, lens_fraction=0.4, resamples=10))
    return config
