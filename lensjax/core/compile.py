"""XLA's compile cache, kept between runs."""

import os
import pathlib
import warnings

import jax


def enable_cache() -> pathlib.Path:
    """Keep compiled programs under $XDG_CACHE_HOME/lensjax/xla (default ~/.cache); returns the folder.

    JAX_COMPILATION_CACHE_DIR, where it is set, comes before that, with JAX's other settings of its cache.
    """
    if own := os.environ.get("JAX_COMPILATION_CACHE_DIR"):
        return pathlib.Path(own)
    home = os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache"
    folder = pathlib.Path(home) / "lensjax" / "xla"
    jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)  # the default, 1 s, skips the small ones
    # where it cannot be read or written, as in a full home, programs are compiled again
    warnings.filterwarnings("ignore", "Error (reading|writing) persistent compilation cache entry")
    return folder
