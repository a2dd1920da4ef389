"""Self-supervised representations of cutouts: MoCo v2, similarity, linear probe (Stein et al. 2022, ApJ 932, 107)."""

from ml_collections import config_dict

from configs import common
from configs.cutouts import fetching, lenses
from configs.ranking import catalogue, completeness, explore
from configs.views import STEPS, views
from lensjax.core.errors import UserError

VARIANTS = ("default", "demo", "smoke")


def get_config(variant: str = "default") -> config_dict.ConfigDict:
    """One page: data, views, encoder, contrast, embeddings, neighbours, probe.

    Variants: "default", the paper's scale; "demo", a small encoder on mocks, minutes on two cores; "smoke", seconds.
    """
    if variant not in VARIANTS:
        raise UserError(f"configs/ssl.py has no variant {variant!r}: expected one of {', '.join(VARIANTS)}")
    config = default()
    config.variant = variant
    change = {"default": lambda c: c, "demo": demo, "smoke": smoke}
    return change[variant](config)


def default() -> config_dict.ConfigDict:
    """ResNet50, 3.5 million cutouts, 40 epochs, eight GPUs."""
    config = common.common()
    config.system = "ssl"
    config.variant = "default"

    # Data: the user's cutouts, the published mocks, or ever fresh mocks of the same simulator, drawn on the device.
    config.data = config_dict.ConfigDict()
    config.data.source = "simulate"  # "cutouts" (config.data.input), "tfds" (the published mocks) or "simulate"
    config.data.input = ""  # HDF5 file, folder or glob of cutouts
    config.data.dataset = "lens_cutouts"
    config.data.dir = "tensorflow_datasets"
    config.data.num_train = 3_500_000
    config.data.num_test = 4_096
    config.data.mag_max = 20.0  # of "cutouts": z magnitude of the faintest to train on
    config.data.uniform_mag = True  # of "cutouts": every magnitude as often
    config.data.size = 152  # pixels; room for rotation and jitter around the view

    config.sim = lenses()
    config.augment = views()

    config.model = config_dict.ConfigDict()
    config.model.name = "resnet50"  # or "resnet10", "resnet18", "resnet34"
    config.model.width = 64  # channels of the first stage; features: 8 times, 32 times with resnet50
    config.model.stem = "7x7"  # in steps of 2, then max-pooling; or "3x3" in steps of 2, for small objects
    config.model.dtype = "float32"  # or "bfloat16": pays on GPUs, not on CPUs
    config.model.chunk = 16  # images of one pass at inference on CPUs, which like their caches full; 0: all
    config.model.stretch = stretch()

    config.moco = config_dict.ConfigDict()
    config.moco.queue = 262_144  # negatives; a whole number of batches
    config.moco.momentum = 0.996
    config.moco.temperature = 0.2
    config.moco.bn_groups = 8  # of a batch, each with statistics of its own; the paper's are its eight GPUs
    config.moco.projector = config_dict.ConfigDict({"hidden": 2048, "size": 128, "norm": False})

    config.train.update(dict(steps=547_000, batch_size=256, eval_every=10_000, checkpoint_every=2_000))
    config.train.update(dict(best_metric="roc_auc", best_mode="max"))
    config.optim.update(dict(name="sgd", learning_rate=0.03, warmup_steps=0, clip_norm=0.0))
    config.optim.momentum = 0.9

    # How good the features are while training: lenses of the test split against the rest, evaluated on mocks.
    config.evaluate = config_dict.ConfigDict()
    config.evaluate.top = 10  # neighbours of each lens that are looked at
    config.evaluate.ridge = 1e-2  # of the linear classifier, in units of the features' mean variance

    config.fetch_cutouts = fetching()
    config.convert = config_dict.ConfigDict({"input": ""})  # PyTorch checkpoint of a ResNet that convert makes ours
    config.embed = embeddings()
    config.neighbours = neighbours()
    config.probe = probe()
    config.catalogue, config.completeness, config.explore = catalogue(), completeness(), explore()
    return config


def stretch() -> config_dict.ConfigDict:
    """The block config.model.stretch: how fluxes become the network's input, tasks/stretch.py."""
    stretch = config_dict.ConfigDict()
    stretch.name = "asinh"  # or "difference", with planes less the central galaxy, or "rgb", what people see
    stretch.softening = (0.0062, 0.0088, 0.0234)  # nanomaggies a pixel: twice the median noise
    stretch.divisor = 3.0
    return stretch


def embeddings() -> config_dict.ConfigDict:
    """The block config.embed: cutouts in, embeddings out, embed/embed.py."""
    embed = config_dict.ConfigDict()
    embed.input = ""  # HDF5 file, folder or glob of cutouts; empty: mocks of the test split's simulator
    embed.num = 20_000  # of those mocks
    embed.lens_fraction = 0.05  # of those mocks
    embed.batch_size = 256  # cutouts of one jitted call
    embed.chunk_rows = 16_384  # rows of embeddings written, and resumed, at a time
    embed.dtype = "float16"  # or "float32"
    return embed


def neighbours() -> config_dict.ConfigDict:
    """The block config.neighbours: the most similar objects of each, embed/neighbours.py."""
    neighbours = config_dict.ConfigDict()
    neighbours.k = 999
    neighbours.window = 0.5  # mag, each way; 0: no window
    neighbours.band = "r"  # the paper's; its released script has z
    neighbours.queries = ()  # rows of the objects' table; empty: all against all
    neighbours.engine = "bands"  # or "faiss", slower
    neighbours.memory = 8.0  # GiB: with less than the widest window needs, every pair is computed twice
    return neighbours


def probe() -> config_dict.ConfigDict:
    """The block config.probe: a linear classifier of embeddings, embed/probe.py."""
    probe = config_dict.ConfigDict()
    probe.labels = ""  # table with row and label, or list of lenses with ra, dec; empty: labels of the objects' table
    probe.ratios = (1, 10, 100, 1_000, 4_000, 10_000)  # of non-lenses to lenses in training, as far as they go
    probe.valid_ratio = 10_000  # in validation, as far as it goes
    probe.valid_fraction = 0.3  # of the lenses
    probe.splits = 5  # random ones
    probe.iterations = 60  # of L-BFGS; the best one is kept
    probe.l2 = 0.0  # penalty on the weights
    probe.top = 1_139  # of the validation set that a person would look at,
    probe.top_fraction = 0.125  # or this share of it, where that is fewer
    return probe


def demo(config: config_dict.ConfigDict) -> config_dict.ConfigDict:
    """A ResNet10 of width 16 (128 features) that sees the central 12.6 arcsec of 12,288 mocks, built once."""
    config.data.update(dict(source="tfds", num_train=12_288, num_test=2_048, size=76))
    config.augment.update(dict(steps=("gain", *STEPS), brightness=0.8, colour=0.15, size=48, jitter=3))
    config.model.update(dict(name="resnet10", width=16, stem="3x3", chunk=32))
    config.model.stretch.name = "difference"
    config.moco.update(dict(queue=2_048, momentum=0.99, bn_groups=4))
    config.moco.projector.update(dict(hidden=256, size=64, norm=True))
    config.train.update(dict(steps=1_000, batch_size=128, log_every=25, eval_every=250, checkpoint_every=50))
    config.optim.update(dict(name="adamw", learning_rate=2e-3, warmup_steps=100, clip_norm=1.0))
    config.embed.update(dict(num=10_000, lens_fraction=0.01, chunk_rows=4_096))
    config.neighbours.k = 100
    config.probe.update(dict(ratios=(1, 3, 10, 30), valid_ratio=100))
    return config


def smoke(config: config_dict.ConfigDict) -> config_dict.ConfigDict:
    """A tiny encoder, a handful of cutouts."""
    config = common.smoke(config)
    config.data.size = 40
    config.augment.update(dict(size=32, jitter=2))
    config.model.update(dict(name="resnet10", width=2, stem="3x3", chunk=8))
    config.moco.update(dict(queue=32, bn_groups=2))
    config.moco.projector.update(dict(hidden=16, size=8))
    config.optim.warmup_steps = 0
    config.evaluate.top = 4
    config.embed.update(dict(num=64, lens_fraction=0.3, batch_size=8, chunk_rows=24))
    config.neighbours.k = 5
    config.probe.update(dict(ratios=(1, 2), splits=2, iterations=5, top=4, valid_ratio=4))
    return config
