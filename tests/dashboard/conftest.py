"""A made-up loop for each test."""

from pathlib import Path

import pytest

from tests.dashboard.stored_loop import StoredLoop


@pytest.fixture
def loop(tmp_path: Path) -> StoredLoop:
    return StoredLoop(tmp_path)
