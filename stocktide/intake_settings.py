"""The mappings, secrets and tokens of the intake, from the environment.

In: `STOCKTIDE_MAPPINGS`, `STOCKTIDE_INTAKE_<NAME>_SECRET`, `STOCKTIDE_INTAKE_<NAME>_TOKEN`. Out: mappings by name, what
the API and the worker need of each; a MappingError names the file or the variable.
"""

from __future__ import annotations

import os
from pathlib import Path

from stocktide.streams.mapping.mapping_file import Mapping
from stocktide.streams.mapping.mapping_reader import load_mappings, secrets_of
from stocktide.streams.mapping.verify import EnabledMapping


def read_mappings() -> dict[str, Mapping]:
    """Every mapping by name. Raises MappingError."""
    folder = os.environ.get("STOCKTIDE_MAPPINGS")
    return load_mappings(Path(folder) if folder else None)


def read_enabled_mappings() -> dict[str, EnabledMapping]:
    """The mappings that have a secret. Raises MappingError."""
    found = {name: EnabledMapping(each, secrets_of(each, os.environ)) for name, each in read_mappings().items()}
    return {name: enabled for name, enabled in found.items() if enabled.secrets}


def read_tokens(mappings: dict[str, Mapping]) -> dict[str, str]:
    """The tokens for the mappings that fetch, by name."""
    variables = {name: each.secret_variable.removesuffix("SECRET") + "TOKEN" for name, each in mappings.items()}
    return {name: os.environ[variable] for name, variable in variables.items() if variable in os.environ}
