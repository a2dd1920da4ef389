"""Defaults that the systems share, and the two ways to shrink any config."""

from ml_collections import config_dict

from configs import vetting


def common() -> config_dict.ConfigDict:
    """Settings that mean the same in every system."""
    config = config_dict.ConfigDict()
    config.seed = 0

    config.train = config_dict.ConfigDict()
    # Workdir or folder of weights that a new run begins with (another config.seed gives other mocks); empty: random.
    config.train.start = ""
    config.train.steps = 10_000  # optimiser steps
    config.train.batch_size = 128  # over all devices
    config.train.chunk = 0  # rows whose gradient is taken at a time on CPUs, which like their caches full; 0: all
    config.train.log_every = 100  # steps between lines of metrics.jsonl
    config.train.eval_every = 1_000  # steps between test evaluations (and best-checkpoint candidates)
    config.train.checkpoint_every = 500  # steps between checkpoints a killed run resumes from
    config.train.best_metric = "loss"  # metric of the test split that picks the best checkpoint
    config.train.best_mode = "min"

    config.optim = config_dict.ConfigDict()
    config.optim.name = "adamw"
    config.optim.learning_rate = 2e-3  # peak of a one-cycle cosine
    config.optim.warmup_steps = 500
    config.optim.weight_decay = 1e-4
    config.optim.clip_norm = 1.0

    config.release = config_dict.ConfigDict()
    config.release.dtype = "float32"  # of the weights that --mode=release writes, or "int8": a quarter of the size
    return config


def spectra() -> config_dict.ConfigDict:
    """`common`, and what a system that is searched in spectra has besides."""
    config = common()

    config.search = config_dict.ConfigDict()
    config.search.input = ""  # file, folder, glob, or a text file that lists files
    config.search.catalogue = ""  # spAll, specObj or such a CSV, VOTable, ...; empty: the row in each file
    config.search.scorer = (
        "network"  # or "matched_filter" (traditional), "practical_filter" (also rejects lone-pixel spikes)
    )
    config.search.threshold = 0.5
    config.search.ensemble = ()  # more workdirs, or folders of released weights, whose logits are averaged with these
    config.search.temperature = 0.0  # divides the logit, evaluation.json says by what; 0: the score as it was trained
    config.search.batch_size = 256  # spectra of one jitted call
    config.search.readers = 2  # reading threads
    config.search.queue = 8  # files that wait, read, for the scorer: bounds the memory
    config.search.shard_rows = 4096  # rows of scores written, and resumed, at a time
    config.search.report_hits = 24  # best hits that report.html shows with their spectra; 0: no page
    config.search.report_figures = 12  # best candidates whose figures are also written as PDF

    # The traditional search, search/matched_filter.py; the values of Shu et al. 2016.
    config.search.matched_filter = config_dict.ConfigDict()
    config.search.matched_filter.num_templates = 4
    config.search.matched_filter.mask_pixels = 10.0  # each way around lines of the galaxy and the sky
    config.search.matched_filter.sigma = 2.2  # of the Gaussian kernel, pixels
    config.search.matched_filter.taps = 15  # its length, pixels
    config.search.matched_filter.threshold = 6.0  # S/N of a hit, where the score is 0.5
    config.search.matched_filter.max_hits = 5  # spectra with more are dropped
    config.search.matched_filter.max_pixel_fraction = 0.7  # practical_filter: of the signal, from one pixel

    config.vet = vetting.vetting()  # from hits to candidates

    config.inject = injection()
    config.mock = mocks()

    # Continua of the user's own objects, for config.sim.continuum; search/continua.py.
    config.continua = config_dict.ConfigDict()
    config.continua.number = 2_000  # objects at most; 1.3 GB
    config.continua.least_snr = 4.0  # median of a pixel
    config.continua.vectors = 10
    config.continua.smooth = 0.0  # pixels, of the vectors; galaxies are as sharp as the instrument

    # Public spectra to download, surveys/fetch.py.
    config.fetch = config_dict.ConfigDict()
    config.fetch.list = ""  # text, one plate-mjd-fiber a line, or a table with columns plate, mjd and fiberid
    config.fetch.redshift = (0.0, 0.0)  # or: galaxies in this range, found through SPARCL
    config.fetch.release = "BOSS-DR16"  # SPARCL's name of the SDSS or BOSS release that is searched by redshift
    config.fetch.limit = 1000  # objects of a redshift range
    config.fetch.base_url = "https://data.sdss.org/sas/dr17"
    config.fetch.workers = 4  # downloads at a time
    config.fetch.retries = 5
    config.fetch.backoff = 1.0  # seconds before the first retry; doubles each time
    config.fetch.timeout = 60.0  # seconds without a byte
    return config


def injection() -> config_dict.ConfigDict:
    """The block config.inject: lines injected into the user's own spectra, search/inject.py."""
    inject = config_dict.ConfigDict()
    inject.lines = 20_000
    inject.hosts = 500  # galaxies, and sky fibers, held in memory
    inject.snr = (3.0, 20.0)  # uniform; of the true profile under the spectrum's own errors
    inject.mirror_fraction = 0.3  # of the lines have their tail on the blue side
    inject.near = 6.0  # pixels within which a hit is the injected line
    inject.line_rate = 0.01  # of the galaxies have a line: the prior of every probability
    inject.reliability_edges = (0.0, 0.01, 0.03, 0.1, 0.2, 0.4, 0.6, 0.8, 0.9, 0.97, 1.0)
    inject.edges = config_dict.ConfigDict()  # of the cells of the completeness maps
    inject.edges.wave = (3800.0, 4000.0, 4200.0, 4400.0, 4600.0, 4800.0, 5000.0)
    inject.edges.snr = (3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 10.0, 12.0, 15.0, 20.0)
    inject.edges.line_flux = (2.0, 4.0, 6.0, 8.0, 12.0, 16.0, 24.0, 36.0, 60.0)  # 1e-17 erg/s/cm2
    inject.edges.line_sigma = (50.0, 110.0, 150.0, 190.0, 240.0, 300.0, 500.0)  # km/s
    inject.edges.line_alpha = (-20.0, -5.0, -2.0, 0.0, 1.0, 2.0, 3.0, 5.0, 10.0, 20.0)
    return inject


def mocks() -> config_dict.ConfigDict:
    """The block config.mock: mock plates to search, search/mock.py and sims/plate.py."""
    mock = config_dict.ConfigDict()
    mock.plates = 1
    mock.fibers = 1000  # of a plate
    mock.window = (3600.0, 9800.0)  # Angstrom
    mock.sky_fraction = 0.08  # of the fibers: the control sample
    mock.lya_rate = 0.01  # of the galaxies
    mock.oii_rate = 0.01  # of the galaxies: background [OII] emitters at z < 0.34
    mock.line_law = "lesser"  # flux, see sims/lya.py: "lesser", "snr" (uniform in snr_range) or "paper"
    mock.snr_range = (4.0, 20.0)
    mock.dirt = 1.0  # 1 as dirty as real plates, which is less than config.sim.dirt is; 0 clean
    mock.lost_rate = 0.005  # of the galaxies have a wrong redshift, or are stars
    return mock


def smoke(config: config_dict.ConfigDict) -> config_dict.ConfigDict:
    """Seconds: a few steps of a tiny model, to show that everything is wired."""
    config.train.update({"steps": 4, "batch_size": 8, "log_every": 1, "eval_every": 2, "checkpoint_every": 2})
    config.optim.warmup_steps = 1
    config.data.update({"num_train": 64, "num_test": 32})
    if "search" not in config:
        return config
    config.search.update({"batch_size": 8, "report_hits": 2})
    few = {"fibers": 40, "sky_fraction": 0.0, "lya_rate": 0.3}
    config.mock.update({name: value for name, value in few.items() if name in config.mock})
    config.inject.update({"lines": 24, "hosts": 4})
    return config
