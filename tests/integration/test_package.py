"""The installed distribution has one top-level name, also beside a package named like one of its folders (PyTables)."""

from __future__ import annotations

import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
# The folders of the repository that are linked into the package, and their places there.
LINKED = {
    **{name: name for name in ("streams", "tables", "agents", "api", "loadtest")},
    "clients/js/src": "api/board/client",
    "clients/python/src/stocktide_client": "client",
}
PRODUCT = (*LINKED, "stocktide", "pyproject.toml", "README.md", "LICENSE")
PIP = ("-m", "pip", "--quiet", "--disable-pip-version-check")


def _run(*command: str | Path, cwd: Path, status: int = 0) -> str:
    ended = subprocess.run(list(map(str, command)), cwd=cwd, capture_output=True, text=True, check=False, timeout=300)
    assert ended.returncode == status, f"{command}: {ended.stdout}{ended.stderr}"
    return ended.stdout


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the product's sources, with links kept as links."""
    folder = tmp_path_factory.mktemp("copy")
    for name in PRODUCT:
        if (ROOT / name).is_dir():
            skip = shutil.ignore_patterns("__pycache__", "*.egg-info")
            shutil.copytree(ROOT / name, folder / name, symlinks=True, ignore=skip)
        else:
            shutil.copy2(ROOT / name, folder / name)
    return folder


@pytest.fixture(scope="module")
def wheel(copy: Path) -> Path:
    _run(sys.executable, *PIP, "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", "dist", ".", cwd=copy)
    (built,) = (copy / "dist").glob("stocktide-*.whl")
    return built


def test_the_wheel_has_one_top_level_name_and_every_file(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    assert {name.split("/")[0].partition("-")[0] for name in names} == {"stocktide"}
    sources = {
        f"{place}/{path.relative_to(ROOT / folder).as_posix()}"
        for folder, place in LINKED.items()
        for path in (ROOT / folder).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert {f"stocktide/{source}" for source in sources} <= names
    assert {"stocktide/py.typed", "stocktide/embedded/kafka_jars.lock", "stocktide/up/rules.yaml"} <= names


@pytest.mark.soak
def test_it_runs_beside_pytables_in_an_environment_of_its_own(wheel: Path, tmp_path: Path) -> None:
    _run(sys.executable, "-m", "venv", "--without-pip", "env", cwd=tmp_path)
    python = tmp_path / "env" / "bin" / "python"
    install = (sys.executable, *PIP, "--python", python, "install", "--no-compile")
    # The dependencies of Stocktide come from this environment: installing them again takes a minute and shows nothing.
    site = _run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=tmp_path).strip()
    Path(site, "dependencies.pth").write_text(f"{sysconfig.get_path('purelib')}\n")
    _run(*install, "--no-deps", wheel, cwd=tmp_path)
    _run(*install, "tables", cwd=tmp_path)
    assert "Usage: stocktide" in _run(tmp_path / "env" / "bin" / "stocktide", "--help", cwd=tmp_path)
    both = (
        "import tables, stocktide.tables, stocktide.worker, stocktide.api_server\n"
        "with tables.open_file('shelf.h5', 'w') as file:\n"
        "    file.create_array('/', 'units', [1, 2, 3])\n"
        "    print(file.root.units[2], stocktide.__file__)\n"
    )
    assert _run(python, "-c", both, cwd=tmp_path) == f"3 {site}/stocktide/__init__.py\n"


def test_the_editable_install_finds_the_folders_at_the_top(tmp_path: Path) -> None:
    script = (
        "import importlib.util as util, pathlib\n"
        "import stocktide.tables, stocktide.loadtest\n"
        "print(pathlib.Path(stocktide.tables.__file__).resolve().parent)\n"
        "print([name for name in ('streams', 'agents', 'api', 'loadtest') if util.find_spec(name)])\n"
    )
    assert _run(sys.executable, "-c", script, cwd=tmp_path) == f"{ROOT / 'tables'}\n[]\n"


def test_strict_mypy_sees_an_error_in_a_linked_folder(copy: Path) -> None:
    command = (sys.executable, "-m", "mypy", "--config-file", "pyproject.toml", "-p", "stocktide.streams")
    assert "Success" in _run(*command, cwd=copy)
    with (copy / "streams" / "topics.py").open("a") as file:
        file.write("\nWRONG: int = 'text'\n\n\ndef untyped(value):\n    return value\n")
    output = _run(*command, cwd=copy, status=1)
    assert "Incompatible types in assignment" in output
    assert "Function is missing a type annotation" in output
