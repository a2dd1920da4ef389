"""What the search of one system consists of beyond the machinery: a module of functions and tables, named here.

make_predict(config, practical)   the traditional scorer: predict(params, model_state, batch)
STATUS                            its status codes -> sentence
QUASARS                           whether it looks at quasars: class and redshift, see `surveys.read_block`
searched(wave, z)                 where lines are looked for: (P,) Angstrom, redshift -> bool (P,)
CONTROL                           whether sky fibers err as objects do: the control sample of the vetting
EVALUATED                         config.sim of the mocks that scorers are compared on
identity(config)                  text of the settings that it depends on
make_measure(config, loglam)      measure(chunk, hits) -> columns of the chunk's hits
nothing_measured()                the same of no hits
CUTS                              name -> select.Cut
COLUMNS                           of candidates.*: name -> (unit, UCD, meaning)
describe(columns, config)         the columns with what is derived of them: name, grade, ...
order(columns)                    permutation of candidates, best first
make_plate_simulator(config)      simulate(key) of one mock fiber on config.mock.window, with its kind
KINDS, MOCK_TRUTH                 names of the kinds; what of the truth is written beside mock plates
view                              the module that shows candidates on the page, see `vetted_page`
injection                         the module that injects into the user's spectra, see `inject_lines`
"""

import importlib
from types import ModuleType
from typing import Any

from lensjax.core.errors import UserError

MODULES = {"lya": "lensjax.search.emitters", "mgii": "lensjax.search.absorbers"}


def of(config: Any) -> ModuleType:
    """The module of config.system; UserError for a system that is not searched in spectra."""
    if config.system not in MODULES:
        raise UserError(f"config.system is {config.system!r}, and spectra are searched for {', '.join(MODULES)}.")
    return importlib.import_module(MODULES[config.system])
