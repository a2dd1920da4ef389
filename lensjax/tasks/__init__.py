"""What each system learns: its loss, its prediction, and how good they are."""

import importlib
from collections.abc import Callable
from typing import Any

from lensjax.core.errors import UserError
from lensjax.core.task import Task

# System -> module with make_task(config), module with make_metrics(config).
TASKS = {
    "lya": ("lensjax.tasks.classify", "lensjax.tasks.metrics"),
    "mgii": ("lensjax.tasks.absorbers", "lensjax.tasks.metrics"),
    "ssl": ("lensjax.tasks.contrast", "lensjax.tasks.retrieval"),
    "lens": ("lensjax.tasks.lens", "lensjax.tasks.metrics"),
}


def make_task(config: Any) -> Task:
    """The Task of config.system; UserError for a system that does not exist."""
    return importlib.import_module(_modules(config)[0]).make_task(config)


def make_metrics(config: Any) -> Callable[[dict, dict], dict[str, float]]:
    """metrics(predictions, truth), dicts of (N, ...) arrays over a test split -> numbers of config.system."""
    return importlib.import_module(_modules(config)[1]).make_metrics(config)


def _modules(config: Any) -> tuple[str, str]:
    if config.system not in TASKS:
        raise UserError(f"config.system is {config.system!r}, expected one of {', '.join(TASKS)}")
    return TASKS[config.system]
