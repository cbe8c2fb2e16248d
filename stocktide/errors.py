"""The root of Stocktide's exceptions, which is that of its client, and those of the command line. A class's docstring
is its default message."""

from __future__ import annotations

from stocktide.client.errors import StocktideError as StocktideError


class CommandError(StocktideError):
    """The command cannot continue."""

    exit_status = 1


class NotFound(CommandError):
    """What the command names does not exist."""

    exit_status = 2


class SettingsError(CommandError):
    """A setting cannot be used. The message names its variable and contains no secret."""

    exit_status = 2


class StartError(CommandError):
    """The process cannot start."""


class PortTaken(CommandError):
    """Another program listens on the port."""

    def __init__(self, what: str, host: str, port: int, advice: str) -> None:
        super().__init__(f"port {port} on {host} is taken, {what} cannot listen there: {advice}")


class ServerUnreachable(CommandError):
    """A server does not answer at the address that was given."""


class FolderInUse(CommandError):
    """Another `stocktide up` runs on the same data folder."""


class EmbeddedError(CommandError):
    """An embedded server cannot be started."""
