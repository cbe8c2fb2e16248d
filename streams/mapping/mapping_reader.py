"""The reader of mapping files.

In: YAML files, those of the package and those of a folder. Out: mappings by name, or a MappingError that names the file
and the field.
"""

from __future__ import annotations

from collections.abc import Mapping as Dictionary
from ipaddress import ip_address
from pathlib import Path
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo

from jmespath.exceptions import JMESPathError

from stocktide.errors import CommandError
from stocktide.streams.mapping.event_fields import event_trouble
from stocktide.streams.mapping.mapping_file import LINES_DIGEST, Fetch, Mapping, compile_path, placed_sources
from stocktide.streams.yaml_file import read_yaml

FOLDER = Path(__file__).parent / "files"


class MappingError(CommandError):
    """A mapping file that cannot be used."""

    exit_status = 2


def load_mappings(folder: Path | None = None) -> dict[str, Mapping]:
    """The mappings of the package and of `folder`, which replace those of the same name. Raises MappingError."""
    if folder is not None and not folder.is_dir():
        raise MappingError(f"STOCKTIDE_MAPPINGS is {str(folder)!r}: there is no such folder")
    return _load_folder(FOLDER) | ({} if folder is None else _load_folder(folder))


def _load_folder(folder: Path) -> dict[str, Mapping]:
    loaded: dict[str, Mapping] = {}
    files: dict[str, str] = {}
    for path in sorted(folder.glob("*.y*ml")):
        mapping = read_mapping(path)
        if mapping.name in files:
            raise MappingError(f"{path}: name: {mapping.name!r} is the name of {files[mapping.name]} already")
        loaded[mapping.name], files[mapping.name] = mapping, path.name
    return loaded


def read_mapping(path: Path) -> Mapping:
    """Read and check one file. Raises MappingError."""
    try:
        mapping = read_yaml(path, Mapping)
        _check(mapping)
    except OSError as error:
        raise MappingError(f"{path}: {error.strerror or error}") from error
    except ValueError as error:
        raise MappingError(f"{path}: {error}") from error
    except RecursionError:  # a constant that contains itself
        raise MappingError(f"{path}: it is nested too deeply") from None
    return mapping


def secrets_of(mapping: Mapping, environ: Dictionary[str, str]) -> tuple[str, ...]:
    """The secrets of a mapping: one, or two separated by a comma while they rotate. Raises MappingError."""
    given = tuple(part.strip() for part in environ.get(mapping.secret_variable, "").split(",") if part.strip())
    if len(given) > 2:
        raise MappingError(f"{mapping.secret_variable} has {len(given)} secrets: one, or two while they rotate")
    return given


def _check(mapping: Mapping) -> None:
    """Check what types cannot express. Raises ValueError."""
    for place, source in placed_sources(mapping, ""):
        if not source.startswith(("header:", "query:", LINES_DIGEST)):
            try:
                compile_path(source)
            except JMESPathError as error:
                raise ValueError(f"`{place}`: {source!r} is no JMESPath: {error}") from error
    if mapping.zone is not None:
        try:
            ZoneInfo(mapping.zone)
        except (LookupError, OSError) as error:
            raise ValueError(f"`zone`: {mapping.zone!r} is no time zone") from error
    words = [word for choice in mapping.choices for word in choice.words]
    if twice := {word for word in words if words.count(word) > 1}:
        raise ValueError(f"`choices`: {', '.join(sorted(twice))} is listed twice")
    for at, choice in enumerate(mapping.choices):
        for at_event, rule in enumerate(choice.events):
            place = f"choices[{at}].events[{at_event}]"
            if rule.type.startswith("stock.") and not rule.id:
                raise ValueError(f"`{place}.id`: a movement needs natural keys")
            if (trouble := event_trouble(rule, place)) is not None:
                raise ValueError(trouble)
    if (fetch := mapping.fetch) is not None and not _may_fetch(fetch):
        raise ValueError(f"`fetch.url`: {fetch.url!r} is not https")


def _may_fetch(fetch: Fetch) -> bool:
    url = urlsplit(fetch.url)
    if not url.hostname or url.username is not None:
        return False
    if url.scheme == "https":
        return True
    try:
        return url.scheme == "http" and fetch.allow_loopback and ip_address(url.hostname).is_loopback
    except ValueError:
        return False
