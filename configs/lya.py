"""Lyman-alpha emitters behind BOSS and DESI galaxies (Li et al. 2018, MNRAS 482, 313)."""

from ml_collections import config_dict

from configs import common

VARIANTS = ("default", "paper", "demo", "smoke")


def get_config(variant: str = "default") -> config_dict.ConfigDict:
    """One page: data, model, loss, optimiser, selection."""
    config = common.common()
    config.system = "lya"
    config.variant = variant

    # Data: the published TFDS set, or ever fresh mocks of the same simulator, drawn on the device.
    config.data = config_dict.ConfigDict()
    config.data.source = "simulate"  # "simulate" (fresh mocks) or "tfds" (the published set)
    config.data.dataset = "lya_spectra"
    config.data.dir = "tensorflow_datasets"
    config.data.num_train = 135_000
    config.data.num_test = 15_000
    config.data.window = (3800.0, 5000.0)  # Angstrom, vacuum: 1192 pixels

    # Simulator, sims/lya.py. Every law is named in its docstring.
    config.sim = config_dict.ConfigDict()
    config.sim.continuum = "passive"  # "passive" (shipped basis), or a path: spEigenGal file, or a folder of BOSS spectra
    config.sim.num_eigenvectors = 6
    config.sim.redshift = (0.3, 0.9)
    config.sim.line_fraction = 0.5
    config.sim.line_law = "snr"  # "snr" (uniform matched-filter S/N), "lesser" (Cao et al. 2020), "paper" (peak > 1.5)
    config.sim.line_profile = "skewnormal"  # or "gaussian"
    config.sim.snr_range = (3.0, 20.0)
    config.sim.oii_fraction = 0.0  # of the lines: background [OII] emitters instead of Lyman-alpha
    config.sim.dirt = 1.0  # 0 clean; 1 as dirty as real data: spikes, airglow, wrong errors, misfit

    config.model = config_dict.ConfigDict()
    config.model.name = "resnet1d"
    config.model.channels = ("residual", "snr", "log_error", "mask")
    config.model.widths = (8, 8, 16, 16, 32, 32, 48, 48)  # of the 8 blocks; at most four changes, the first included
    config.model.kernel_size = 3
    config.model.fold = 4  # pixels laid side by side as channels before the first block
    config.model.norm = "batch"
    config.model.dropout = 0.1
    config.model.locate = True  # the head that says where the line is
    config.model.dtype = "float32"  # or "bfloat16": pays on GPUs, not on CPUs
    config.model.conv = ("2d", "1d")  # lowering of convolutions in training, inference: "1d", "2d", "gemm"; same weights
    config.model.chunk = 8  # spectra of one pass at inference: CPUs like their caches full; 0 (all at once) for GPUs

    config.loss = config_dict.ConfigDict()
    config.loss.name = "focal"
    config.loss.gamma = 2.0  # Lin et al. 2017; the exponent of Li et al. 2018 eq. 1 is misprinted
    config.loss.locate_weight = 0.5

    config.evaluate = config_dict.ConfigDict()
    config.evaluate.num = 20_000
    config.evaluate.fpr = (0.01, 0.001)
    config.evaluate.threshold = 0.5

    # Which objects of a survey are searched: Li et al. 2018, section 3.2.
    config.select = config_dict.ConfigDict()
    config.select.z_min = 0.3
    config.select.object_class = "GALAXY"
    config.select.drop_subclasses = ("STARFORMING", "BROADLINE", "AGN")  # looked for as substrings
    config.select.drop_starburst = True
    config.select.clean_redshift = True  # ZWARNING 0 only
    return config
