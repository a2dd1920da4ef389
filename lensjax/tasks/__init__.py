"""What each system learns: its loss, its prediction, and how good they are."""

import importlib
from typing import Any

from lensjax.core.errors import UserError
from lensjax.core.task import Task

TASKS = {"lya": "lensjax.tasks.classify"}  # system -> module with make_task(config)


def make_task(config: Any) -> Task:
    """The Task of config.system; UserError for a system that does not exist."""
    if config.system not in TASKS:
        raise UserError(f"config.system is {config.system!r}, expected one of {', '.join(TASKS)}")
    return importlib.import_module(TASKS[config.system]).make_task(config)
