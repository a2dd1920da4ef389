"""What the README says exists: make targets, modes, configs and their keys, files; and its map is the tested one."""

import importlib
import pathlib
import re
import runpy

import pytest

ROOT = pathlib.Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
COMMANDS = [
    line.strip()
    for block in re.findall(r"```sh\n(.*?)```", README, re.S)
    for line in block.splitlines()
    if line.strip() and not line.startswith("#")
]
MAKE = re.findall(r"^make (\w+)|`make (\w+)[^`]*`", README, re.M)
RUNS = [c for c in COMMANDS if c.startswith("python run.py")]


def targets() -> set[str]:
    return set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.M))


def has_key(config, dotted: str) -> bool:
    *tables, key = dotted.split(".")
    for table in tables:
        config = config.get(table, {})
    return key in config


def test_there_are_commands():
    assert RUNS
    assert {"demo", "test", "lint", "bench", "venv"} <= {a or b for a, b in MAKE}


@pytest.mark.parametrize("target", sorted({a or b for a, b in MAKE}))
def test_make_target(target):
    assert target in targets()


@pytest.mark.parametrize("command", RUNS)
def test_run_command(command):
    """The config and its variant exist, the mode is one, every overridden key is one, nothing else is on the line."""
    modes = importlib.import_module("lensjax.modes").MODES
    flags = dict(word.removeprefix("--").split("=", 1) for word in command.split()[2:])
    path, _, variant = flags.pop("config").partition(":")
    module = importlib.import_module(path.removesuffix(".py").replace("/", "."))
    assert variant or "default" in module.VARIANTS
    config = module.get_config(variant or "default")
    assert flags.pop("mode", "train") in modes
    assert flags.pop("workdir")
    assert [f for f in flags if not f.startswith("config.") or not has_key(config, f.removeprefix("config."))] == []


def test_quoted_config_keys_exist():
    config = importlib.import_module("configs.lya").get_config()
    quoted = re.findall(r"`config\.([\w.]+)`", README)
    assert quoted
    assert [key for key in quoted if not has_key(config, key)] == []


def test_local_links_and_quoted_files_exist():
    links = [x for x in re.findall(r"\]\(([^)#]+)\)", README) if not x.startswith("http")]
    quoted = re.findall(r"`((?:weights|configs|datasets|lensjax|tests|benchmarks)(?:/[\w.]+)*)`", README)
    assert links and quoted
    missing = [x for x in links + quoted if not (ROOT / x).exists()]
    assert not missing, missing


def test_map_is_the_table_of_the_layer_test():
    rows = re.findall(r"^\| (\d) \| `([^`]+)` \|", README, re.M)
    levels = runpy.run_path(str(ROOT / "tests/test_layers.py"))["LEVELS"]
    assert [(part, int(level)) for level, part in rows] == list(levels.items())


def test_short():
    assert len(README.splitlines()) < 150
