"""The one exception root of the front door. Each says in its message what is wrong, where, and what to do."""

from __future__ import annotations


class FrontDoorError(Exception):
    """The command cannot go on. The message is what the user reads: one clear sentence or a few."""

    exit_status = 1


class PortTaken(FrontDoorError):
    """Another program listens on the port."""

    def __init__(self, what: str, host: str, port: int, advice: str) -> None:
        super().__init__(f"port {port} on {host} is taken, {what} cannot listen there: {advice}")


class ServerUnreachable(FrontDoorError):
    """A server that we were told to use does not answer."""


class FolderInUse(FrontDoorError):
    """Another `stocktide up` runs on the same data folder."""


class EmbeddedError(FrontDoorError):
    """An embedded server cannot be started."""


class SettingsError(Exception):
    """A setting cannot be used as it is. The message names its variable, and holds no secret."""
