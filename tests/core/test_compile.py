"""The compile cache is where the XDG rule puts it."""

import jax
import pytest
from jax.experimental.compilation_cache import compilation_cache

from lensjax.core.compile import enable_cache


@pytest.fixture
def untouched():
    """The settings as they were, whatever the test does."""
    names = ("jax_compilation_cache_dir", "jax_persistent_cache_min_compile_time_secs")
    before = {name: getattr(jax.config, name) for name in names}
    yield
    for name, value in before.items():
        jax.config.update(name, value)


def test_the_cache_honours_xdg(untouched, monkeypatch, tmp_path):
    monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert enable_cache() == tmp_path / "lensjax" / "xla"
    assert jax.config.jax_compilation_cache_dir == str(tmp_path / "lensjax" / "xla")
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert enable_cache() == tmp_path / "home" / ".cache" / "lensjax" / "xla"


def test_the_users_own_cache_is_left_alone(untouched, monkeypatch, tmp_path):
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", str(tmp_path))
    before = jax.config.jax_compilation_cache_dir
    assert enable_cache() == tmp_path
    assert jax.config.jax_compilation_cache_dir == before


def test_a_home_that_cannot_be_written_is_no_warning(untouched, monkeypatch, tmp_path):
    monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR", raising=False)
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    enable_cache()
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    compilation_cache.reset_cache()
    try:
        assert jax.jit(lambda x: 3 * x + 1)(2.0) == 7
    finally:
        compilation_cache.reset_cache()
