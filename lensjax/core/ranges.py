"""What numbers a config may hold: told before anything is read, computed or written."""

from typing import Any

import numpy as np

from lensjax.core.errors import UserError

AT_LEAST = {
    1: (
        "train.batch_size train.log_every train.eval_every train.checkpoint_every data.num_train data.num_test "
        "search.readers search.queue search.batch_size search.shard_rows search.matched_filter.taps vet.chunk "
        "evaluate.num mock.plates mock.fibers inject.lines continua.number continua.vectors fetch.workers fetch.limit "
        "embed.batch_size embed.chunk_rows embed.num neighbours.k probe.splits probe.iterations probe.valid_ratio "
        "catalogue.num data.size augment.size moco.queue moco.bn_groups evaluate.top evaluate.survey "
        "evaluate.inspected completeness.arcs"
    ),
    0: (
        "train.steps train.chunk search.temperature continua.smooth neighbours.window fetch.retries explore.port "
        "model.chunk vet.known_radius catalogue.known_radius augment.jitter optim.warmup_steps optim.weight_decay "
        "optim.clip_norm evaluate.resamples seed evaluate.seed"
    ),
}
POSITIVE = "search.matched_filter.sigma optim.learning_rate probe.ratios"
ASCENDING = "data.window vet.window mock.window"  # two numbers
EDGES = (  # of cells
    "completeness.theta_e completeness.arc_mag completeness.arc_snr inject.reliability_edges inject.edges.wave "
    "inject.edges.snr inject.edges.line_flux inject.edges.line_sigma inject.edges.line_alpha inject.edges.z_abs "
    "inject.edges.ew_2796"
)
FILLED = "probe.ratios evaluate.fpr"
# Neither none nor all.
SHARES = "probe.valid_fraction evaluate.threshold evaluate.fpr evaluate.base_rate inject.line_rate"


def check_ranges(config: Any) -> None:
    """UserError for the first number of the config that no mode can use, which names it and what was expected."""
    for least, names in AT_LEAST.items():
        _check(config, names, lambda value, least=least: np.all(np.asarray(value) >= least), f"at least {least}")
    _check(config, POSITIVE, lambda value: np.all(np.asarray(value) > 0), "more than 0")
    _check(
        config, ASCENDING, lambda value: len(value) == 2 and 0 < value[0] < value[1], "two numbers, the smaller first"
    )
    _check(config, EDGES, lambda value: len(value) > 1 and np.all(np.diff(value) > 0), "two numbers or more, ascending")
    _check(config, FILLED, len, "one number or more")
    _check(config, SHARES, lambda value: 0 < np.min(value) and np.max(value) < 1, "between 0 and 1")
    _check(config, "completeness.fpr search.threshold", lambda value: 0 <= value < 1, "0 or more, and less than 1")
    _check(config, "sim.clean_fraction", lambda value: 0 <= value <= 1, "0 to 1")
    _check(config, "search.matched_filter.taps", lambda value: value % 2 == 1, "an odd number")
    _check(config, "explore.port", lambda value: value < 65_536, "at most 65535")
    _check(config, "train.best_mode", lambda value: value in ("min", "max"), "min or max")


def _check(config: Any, names: str, good: Any, expected: str) -> None:
    for name in names.split():
        value = config
        for key in name.split("."):
            value = value.get(key, None) if value is not None else None
        if value is not None and not good(value):
            raise UserError(f"config.{name} is {value!r}: expected {expected}.")
