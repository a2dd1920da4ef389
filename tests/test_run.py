"""The command line: what is mistyped gets one sentence and exit code 2, and --help is quick."""

import pathlib
import subprocess
import sys

import pytest
from absl import flags

import run

# ml_collections loads config files in a way that Python 3.12 retired.
pytestmark = pytest.mark.filterwarnings(r"ignore:the load_module\(\):DeprecationWarning")
ROOT = pathlib.Path(__file__).parents[1]
GOOD = ["--config=configs/lya.py", "--workdir=/nowhere"]


@pytest.fixture
def parse(monkeypatch, capsys):
    """parse(*arguments) -> the sentence on stderr, or None where the flags were accepted."""
    monkeypatch.chdir(ROOT)

    def call(*arguments):
        flags.FLAGS.unparse_flags()
        for name in [name for name in flags.FLAGS if name.startswith("config.")]:
            delattr(flags.FLAGS, name)  # overrides of the call before
        for name in ("config", "workdir", "mode"):
            flags.FLAGS[name].unparse()
        monkeypatch.setattr(sys, "argv", ["run.py", *arguments])  # where config flags look for their overrides
        try:
            run.parse(sys.argv)
        except SystemExit as leaving:
            assert leaving.code == 2
            said = capsys.readouterr().err
            assert said.startswith("lensjax: ") and said.count("\n") == 1
            return said
        return None

    return call


def test_good_flags_give_a_locked_config(parse):
    assert parse(*GOOD, "--mode=search", "--config.train.steps=7") is None
    assert run.CONFIG.value.is_locked and run.CONFIG.value.train.steps == 7 and run.MODE.value == "search"


@pytest.mark.parametrize(
    "arguments, expected",
    [
        ((*GOOD, "--config.train.stepz=3"), 'setting: \'stepz\' Did you mean "steps" instead of "stepz"?'),
        ((*GOOD, "--config.trian.steps=3"), 'Did you mean "train"'),
        ((*GOOD, "--config.train.steps=many"), "many"),
        (("--config=configs/lyaa.py", "--workdir=x"), "configs/lya.py"),
        (("--config", "configs/lyaa.py:demo", "--workdir=x"), "no config file configs/lyaa.py:"),
        (("--config=elsewhere/lya.py:demo", "--workdir=x"), "no config file elsewhere/lya.py:"),
        ((*GOOD, "--mod=search"), "Did you mean: mode"),
        ((*GOOD, "search"), "'search' is not a flag"),
        (("--workdir=x",), "Flag --config must have a value"),
        (GOOD[:1], "Flag --workdir must have a value"),
    ],
)
def test_mistyped_flags_get_one_sentence(parse, arguments, expected):
    assert expected in parse(*arguments)


def test_what_a_config_refuses_is_said(parse, tmp_path):
    config = tmp_path / "c.py"
    config.write_text("def get_config(variant):\n    raise ValueError(f'no variant {variant!r}: expected demo, smoke')")
    said = parse(f"--config={config}:demos", "--workdir=x")
    assert said == "lensjax: wrong flag or setting: no variant 'demos': expected demo, smoke\n"


def command(*arguments):
    return subprocess.run(
        [sys.executable, "-X", "importtime", "run.py", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
    )


def test_help_names_every_mode_and_imports_no_jax():
    from lensjax.modes import MODES

    done = command("--help")
    assert all(mode in done.stdout for mode in MODES) and "--config" in done.stdout
    heavy = ("jax", "flax", "orbax", "tensorflow_datasets", "astropy", "matplotlib", "pyarrow")
    imported = {line.split("|")[-1].strip() for line in done.stderr.splitlines() if "|" in line}
    assert "absl.app" in imported and not imported & set(heavy)


def test_user_errors_end_the_program_in_one_line(tmp_path):
    done = command("--config=configs/lya.py", f"--workdir={tmp_path}", "--mode=serach")
    said = [line for line in done.stderr.splitlines() if not line.startswith("import time:")]
    assert done.returncode == 2 and said == ["lensjax: there is no mode 'serach': did you mean search?"]
    assert "jax" not in {line.split("|")[-1].strip() for line in done.stderr.splitlines()}  # said at once


def test_missing_input_ends_in_one_line(tmp_path):
    arguments = ("--mode=search", "--config.search.input=/no/such/folder", "--config.search.scorer=matched_filter")
    done = command("--config=configs/lya.py", f"--workdir={tmp_path}", *arguments)
    said = [line for line in done.stderr.splitlines() if not line.startswith("import time:")]
    assert done.returncode == 2 and len(said) == 1 and "/no/such/folder" in said[0]
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "error, code, said", [(KeyboardInterrupt, 130, "interrupted"), (BrokenPipeError, 2, "nobody reads")]
)
def test_who_leaves_early_is_told_in_one_line(parse, tmp_path, monkeypatch, capsys, error, code, said):
    def leave(*arguments):
        raise error

    parse("--config=configs/lya.py", f"--workdir={tmp_path}", "--mode=build")
    monkeypatch.setitem(run.modes.MODES, "build", leave)
    monkeypatch.setattr(sys, "stdout", sys.stdout)  # to be put back
    with pytest.raises(SystemExit) as leaving:
        run.main([])
    text = capsys.readouterr().err
    assert leaving.value.code == code and text.count("\n") == 1 and text.startswith("lensjax: ") and said in text
