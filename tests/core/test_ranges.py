"""Numbers that no mode can use are told at once; what the configs say is fine."""

import pytest

from configs import lens, lya, mgii, ssl
from lensjax.core.errors import UserError
from lensjax.core.ranges import check_ranges


@pytest.mark.parametrize("system", [lya, mgii, ssl, lens])
def test_the_configs_are_within_range(system):
    for variant in system.VARIANTS:
        check_ranges(system.get_config(variant))


@pytest.mark.parametrize(
    ("system", "key", "value", "expected"),
    [
        (lya, "train.batch_size", 0, "at least 1"),
        (lya, "search.temperature", -1.0, "at least 0"),
        (mgii, "train.chunk", -8, "at least 0"),
        (lens, "catalogue.known_radius", -1.0, "at least 0"),
        (lya, "search.matched_filter.sigma", 0.0, "more than 0"),
        (lya, "data.window", (5000.0, 3800.0), "two numbers, the smaller first"),
        (mgii, "vet.window", (3600.0,), "two numbers, the smaller first"),
        (ssl, "probe.ratios", (), "one number or more"),
        (ssl, "probe.valid_fraction", 1.0, "between 0 and 1"),
        (lens, "embed.num", 0, "at least 1"),
        (lya, "evaluate.threshold", 0.0, "between 0 and 1"),
        (lens, "evaluate.fpr", (0.01, 1.0), "between 0 and 1"),
        (mgii, "evaluate.fpr", (), "one number or more"),
        (lens, "optim.clip_norm", -1.0, "at least 0"),
        (ssl, "moco.bn_groups", 0, "at least 1"),
        (lens, "completeness.arcs", 0, "at least 1"),
        (lens, "evaluate.survey", 0, "at least 1"),
        (lens, "evaluate.inspected", (10, 0), "at least 1"),
        (ssl, "probe.ratios", (10, -1), "more than 0"),
        (lens, "completeness.theta_e", (1.5,), "two numbers or more, ascending"),
        (ssl, "completeness.arc_mag", (24.0, 21.0), "two numbers or more, ascending"),
        (lens, "completeness.fpr", -0.01, "0 or more"),
        (lens, "completeness.fpr", 1.0, "0 or more"),
        (ssl, "explore.port", 99_999, "at most 65535"),
        (lya, "train.best_mode", "MIN", "min or max"),
        (lya, "seed", -1, "at least 0"),
        (lya, "search.threshold", 6.0, "0 or more, and less than 1"),
        (mgii, "inject.line_rate", 2.0, "between 0 and 1"),
        (mgii, "sim.clean_fraction", 1.1, "0 to 1"),
        (lya, "search.matched_filter.taps", 14, "an odd number"),
    ],
)
def test_a_number_out_of_range_is_named(system, key, value, expected):
    config = system.get_config()
    config.update_from_flattened_dict({key: value})
    with pytest.raises(UserError, match=rf"config\.{key} is .*: expected {expected}"):
        check_ranges(config)
