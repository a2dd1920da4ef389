"""Four fake devices, hasty compilation, strict rank promotion, and the folder of real data where there is one."""

import importlib.metadata
import os
import pathlib
import tempfile

# Without LLVM's dearer passes and XLA's newer emitters: most of a test's time is compilation. Level 0 makes infinite
# gradients where the same operations one by one have finite ones. XLA stops at a flag that it does not know.
os.environ.setdefault(
    "XLA_FLAGS",
    "--xla_force_host_platform_device_count=4"
    " --xla_backend_optimization_level=1 --xla_llvm_disable_expensive_passes=true"
    + (" --xla_cpu_use_fusion_emitters=false" if importlib.metadata.version("jaxlib").startswith("0.10.") else ""),
)
os.environ.setdefault("JAX_PLATFORMS", "cpu")

# Threads of BLAS in two worker processes on two cores wait for each other: tenfold the time.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

# What one test or process of a session has compiled, the others need not.
if "PYTEST_XDIST_WORKER" not in os.environ and "JAX_COMPILATION_CACHE_DIR" not in os.environ:
    _cache = tempfile.TemporaryDirectory(prefix="lensjax-tests-")
    os.environ["JAX_COMPILATION_CACHE_DIR"] = _cache.name

import jax
import pytest

jax.config.update("jax_numpy_rank_promotion", "raise")

ROOT = pathlib.Path(__file__).parents[1]


@pytest.fixture(scope="session")
def real_data() -> pathlib.Path:
    """Folder of public spectra and tables for development; tests that need it skip where it is absent."""
    folder = pathlib.Path(os.environ.get("LENSJAX_DATA", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no folder of real data at {folder}: set LENSJAX_DATA")
    return folder
