import pytest


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    """Statistics of one test are not those of another."""
    monkeypatch.setenv("LICFG_HF_CACHE", str(tmp_path / "cache"))
