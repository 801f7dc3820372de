"""Exported models are never kept where another user could put others in their place."""

import os
from pathlib import Path

import pytest

from app.embedding.graph import cache
from tests.other_user import as_user, needs_root

_WITHOUT_NAME = 61_000


@needs_root
def test_a_user_without_a_home_has_no_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.delenv("HOME", raising=False)
    assert as_user(_WITHOUT_NAME, lambda: str(cache.default_folder())) == "None"


@pytest.mark.parametrize("variable", ["XDG_CACHE_HOME", "HOME"])
def test_a_folder_that_others_can_write_is_no_cache(
    variable: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv(variable, str(tmp_path / "home"))
    (tmp_path / "home").mkdir(mode=0o700)
    found = cache.default_folder()
    assert found is not None
    assert found.is_relative_to((tmp_path / "home").resolve())
    (tmp_path / "home").chmod(0o777)
    assert cache.default_folder() is None
    (tmp_path / "home").chmod(0o1777)  # as a shared temporary folder: others add, and move nothing
    assert cache.default_folder() == found
    found.mkdir(parents=True)
    found.chmod(0o777)
    assert cache.default_folder() is None


@needs_root
def test_a_folder_that_another_user_made_first_is_no_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    found = cache.default_folder()
    assert found is not None
    found.mkdir()
    os.chown(found, 65_534, 65_534)
    assert cache.default_folder() is None


@needs_root
def test_a_folder_below_one_that_another_user_made_where_anybody_can_is_no_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "shared" / "theirs"))
    (tmp_path / "shared" / "theirs").mkdir(parents=True)
    os.chown(tmp_path / "shared" / "theirs", 65_534, 65_534)
    assert cache.default_folder() is not None
    (tmp_path / "shared").chmod(0o1777)
    assert cache.default_folder() is None
