"""The journal resumes where the checkpoint is, and its files are whole."""

import json

import pytest

from lensjax.core import files, settings
from lensjax.core.errors import UserError
from lensjax.core.journal import Journal, Progress, draw_curves, read_rows
from tests.tiny import tiny_config


def _fill(journal, steps):
    for step in steps:
        journal.write(step=step, split="train", epoch=step / 10, loss=1.0 / step, accuracy=0.5)


def test_a_resumed_journal_equals_an_undisturbed_one(tmp_path):
    _fill(Journal(tmp_path / "a"), range(1, 9))
    _fill(Journal(tmp_path / "b"), range(1, 7))
    with (tmp_path / "b" / "metrics.jsonl").open("a") as file:
        file.write('{"step": 7, "spl')  # killed while writing
    _fill(Journal(tmp_path / "b", step=4), range(5, 9))
    assert (tmp_path / "a" / "metrics.jsonl").read_text() == (tmp_path / "b" / "metrics.jsonl").read_text()
    assert [row["step"] for row in read_rows(tmp_path / "b" / "metrics.jsonl")] == list(range(1, 9))


def test_curves_are_a_picture(tmp_path):
    journal = Journal(tmp_path)
    journal.draw()  # nothing to show yet is no error
    _fill(journal, [1, 2])
    journal.write(step=2, split="test", epoch=0.2, loss=0.4, accuracy=0.6)
    assert journal.draw().read_bytes().startswith(b"\x89PNG")
    assert journal.last("test")["step"] == 2
    assert {path.name for path in tmp_path.iterdir()} == {"curves.png", "metrics.jsonl"}


def test_curves_compare_the_focal_loss_of_both_splits():
    rows = [{"step": 1, "split": "train", "epoch": 0.1, "loss": 5.0, "focal": 0.3, "accuracy": 0.5}]
    rows += [{"step": 1, "split": "test", "epoch": 0.1, "loss": 0.2, "accuracy": 0.5}]
    (axis,) = (axis for axis in draw_curves(rows).axes if axis.get_ylabel() == "focal loss")
    assert {line.get_label(): line.get_ydata().tolist() for line in axis.lines} == {"train": [0.3], "test": [0.2]}


def test_progress_off_a_terminal_is_lines_with_the_time_left(capsys):
    progress = Progress(3, 1, seconds=0)
    progress.note("loss 0.5")
    progress.advance()
    progress.advance()
    progress.close()
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2
    assert "step 2/3" in lines[0] and "step/s" not in lines[0]  # it may have compiled: no rate yet
    assert "step 3/3" in lines[1] and "step/s" in lines[1] and "left" in lines[1] and "loss 0.5" in lines[1]


def test_the_first_of_several_steps_at_once_tells_no_rate(capsys):
    progress = Progress(9, 0, "search", seconds=0, unit="file")
    for each in (4, 5):
        progress.advance(each)
    first, last = capsys.readouterr().err.splitlines()
    assert first == "search: file 4/9" and last.startswith("search: file 9/9, ") and "file/s" in last


def test_a_failed_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "a.txt"
    files.write_text(path, "old")
    with pytest.raises(RuntimeError), files.replacing(path) as temporary:
        temporary.write_text("ne")
        raise RuntimeError
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_config_survives_json():
    config = tiny_config()
    config.data.window = (3800.0, 5000.0)
    again = settings.from_json(settings.to_json(config))
    assert again.to_dict() == config.to_dict()
    with pytest.raises(AttributeError, match="batch_size"):
        again.train.batch_siz = 3


def test_a_workdir_belongs_to_one_config(tmp_path):
    config = tiny_config()
    settings.claim_workdir(tmp_path, config)
    config.train.steps = 1000  # more of the same
    config.data.dir = "moved"
    settings.claim_workdir(tmp_path, config)
    config.data.num_train = 65
    with pytest.raises(UserError, match=r"config.data.num_train = 64 where this run has 65"):
        settings.claim_workdir(tmp_path, config)
    assert json.loads((tmp_path / "config.json").read_text())["train"]["steps"] == 1000
