"""Fixtures that several unit tests share."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.unit.retail_files import Written


@pytest.fixture
def written(tmp_path: Path) -> Written:
    """Writes a file, whole or from its rows, as bytes or as UTF-8."""

    def write(*parts: bytes | str) -> Path:
        path = tmp_path / "retail.csv"
        path.write_bytes(b"".join(part if isinstance(part, bytes) else part.encode() for part in parts))
        return path

    return write
