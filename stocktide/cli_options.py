"""What an error advises: it names an option only where the command that runs has it.

The command line marks the options that say where a server is; whoever finds that a server is not there asks here how it
can be named. A command without such an option (`worker`, `api`) is told by its environment alone.
"""

from __future__ import annotations

from typing import Any

import click


class ServerOption(click.Option):
    """An option that gives the address of a server that the command uses."""


class SystemOption(click.Option):
    """An option that names a running system."""


def option_or_variable(option: str, variable: str) -> str:
    """`--kafka or STOCKTIDE_KAFKA`, or the variable alone."""
    return f"{option} or {variable}" if option in _options(ServerOption) else variable


def how_to_reach(server: str, option: str, variable: str) -> str:
    """What to do about a server that does not answer."""
    if _options(SystemOption):
        return (
            f"name a running system (--data or --api), or give the address of its {server} "
            f"({option_or_variable(option, variable)})"
        )
    if option in _options(ServerOption):
        return f"start it, give its address ({option} or {variable}), or leave both out and get an embedded one"
    return f"start it, or give its address ({variable})"


def own_server_hint(option: str, what: str) -> str:
    """`, or use your own Kafka with --kafka HOST:PORT`; nothing where the command has no such option."""
    return f", or {what}" if option in _options(ServerOption) else ""


def _options(kind: type[click.Option]) -> set[str]:
    context = click.get_current_context(silent=True)
    parameters: Any = context.command.params if context is not None else ()
    return {name for each in parameters if isinstance(each, kind) for name in each.opts}
