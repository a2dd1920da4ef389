"""The compile cache is where the XDG rule puts it."""

import jax
import pytest

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
