"""The command line. It reads options and settings, hands on to the room that does the work, and turns what goes
wrong into a sentence and an exit status: 2 for what was asked wrongly, 1 for what could not be done.
"""

from __future__ import annotations

import asyncio
import functools
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from stocktide.dead_letter_commands import dead_letter_group
from stocktide.errors import FrontDoorError
from stocktide.loadtest import loadtest_command, tester_command
from stocktide.loadtest_compare import with_compare
from stocktide.located import located
from stocktide.moments import Moment
from stocktide.settings import Settings, SettingsError, unread_variables

_FILE = click.Path(path_type=Path)
_PORT = click.IntRange(0, 65_535)


class _Speed(click.ParamType):
    """A factor of real time, or `max` (None)."""

    name = "X|max"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float | None:
        """Refuse what is no positive number."""
        if value == "max":
            return None
        try:
            speed = float(value)
        except ValueError:
            speed = 0.0
        if not 0 < speed < float("inf"):
            self.fail(f"{value!r} is neither a positive number nor max", param, ctx)
        return speed


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="stocktide")
def cli() -> None:
    """One true stock count for goods that are sold in many places at once."""
    for warning in unread_variables():
        click.echo(f"stocktide: {warning}", err=True)


def _with_settings(command: Callable[..., int]) -> Callable[..., None]:
    """Give the command the settings of the environment, and exit with the status that it returns."""

    @functools.wraps(command)
    def wrapped(**options: Any) -> None:
        sys.exit(command(Settings.from_environment(), **options))

    return wrapped


@cli.command()
@click.option("--data", type=_FILE, help="Folder of everything that stays. [STOCKTIDE_DATA, else ./data]")
@click.option("--port", type=_PORT, help="Port of the API; 0 picks a free one. [STOCKTIDE_PORT, else 8080]")
@click.option("--kafka", metavar="HOST:PORT", help="A Kafka of yours, instead of the embedded one.")
@click.option("--redis", metavar="URL", help="A Redis or Valkey of yours, instead of the embedded one.")
@click.option("--ready-file", type=_FILE, help="Written when it serves: addresses and process ids, as JSON.")
def up(
    data: Path | None,
    port: int | None,
    kafka: str | None,
    redis: str | None,
    ready_file: Path | None,
) -> None:
    """Run everything on this machine: Kafka, Valkey, worker, API, board."""
    from stocktide.system import UpOptions
    from stocktide.up import run

    options = UpOptions(
        settings=Settings.from_environment(data=data, port=port, kafka=kafka, redis=redis),
        own_kafka=kafka is None and "STOCKTIDE_KAFKA" not in os.environ,
        own_redis=redis is None and "STOCKTIDE_REDIS" not in os.environ,
        ready_file=ready_file,
    )
    sys.exit(run(options, click.echo))


@cli.command()
@_with_settings
def worker(settings: Settings) -> int:
    """Run one worker: the agents, the relay, the tables. Any number may run."""
    from stocktide.reach import reach_with_topics

    asyncio.run(reach_with_topics(settings))
    from agents.worker import run

    return run(settings)


@cli.command()
@_with_settings
def api(settings: Settings) -> int:
    """Run one API process. Any number may run."""
    from stocktide.reach import reach_servers

    asyncio.run(reach_servers(settings))
    from api.server import run

    return run(settings)


@cli.command()
@click.option("--create", is_flag=True, help="Create those that are missing.")
@click.option("--kafka", metavar="HOST:PORT", help="Where. [STOCKTIDE_KAFKA, else the one of `stocktide up`]")
@_with_settings
def topics(settings: Settings, create: bool, kafka: str | None) -> int:
    """List the topics: key, writer, what each holds, and how it is on the broker."""
    from stocktide.topics import run

    return run(located(settings, kafka=kafka), create, click.echo)


@cli.command()
@click.option("--check", is_flag=True, help="A drill: into the Redis of --redis, which nobody uses.")
@click.option("--redis", "url", metavar="URL", help="The Redis of the drill.")
@click.option("--force", is_flag=True, help="Forget what that Redis holds of this app.")
@_with_settings
def rebuild(settings: Settings, check: bool, url: str | None, force: bool) -> int:
    """Rebuild an empty Redis from the log, and compare the digests. Exit status 1 if they differ."""
    from stocktide import rebuild as rebuilding

    if check != (url is not None):
        raise click.UsageError("--check and --redis go together: the Redis in use is rebuilt without either")
    found = located(settings)
    if url is not None:
        return rebuilding.check(found, click.echo, url=url, force=force)
    return rebuilding.run(found, click.echo, force=force)


@cli.command()
@click.option("--sku", "skus", multiple=True, metavar="SKU", help="Only this one and its orders; may be repeated.")
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
@click.option("--background", is_flag=True, help="Without bars, and behind everything else that runs here.")
@_with_settings
def audit(settings: Settings, **options: Any) -> int:
    """Compare log, tables and Redis beside live traffic; change nothing.

    Exit status 1 if something differs and stays so, 2 if the audit could not be finished.
    """
    from stocktide.audit import AuditOptions, run

    return run(located(settings), AuditOptions(**options))


@cli.command()
@click.option("--plan", is_flag=True, help="Show what a repair would change; change nothing.")
@click.option("--apply", is_flag=True, help="Carry it out, beside live traffic, and audit again.")
@click.option("--sku", "skus", multiple=True, metavar="SKU", help="Only this one and its orders; may be repeated.")
@click.option("--actor", metavar="NAME", help="On whose behalf; it goes into the log. [the user of this machine]")
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
@_with_settings
def repair(settings: Settings, plan: bool, apply: bool, actor: str | None, **options: Any) -> int:
    """Put right what an audit finds: each correction a batch of its own in the log, with its cause.

    Exit status 1 if something differs (still, with --apply), 2 if it could not be finished.
    """
    from stocktide.repair import RepairOptions, run

    if plan == apply:
        raise click.UsageError("say --plan or --apply")
    return run(located(settings), RepairOptions(apply, _actor(actor), **options))


@cli.command()
@_with_settings
def doctor(settings: Settings) -> int:
    """Show the settings and look for what is missing or unsafe. Exit status 1 if something is wrong."""
    from stocktide.doctor import run

    return run(located(settings), click.echo)


@cli.command()
@click.argument("sku")
@click.option("--at", metavar="TIME|VERSION", help="Where it stood then, instead of how it came there.")
@click.option("--since", type=Moment(), help="Only changes since then: 2026-11-24T19:26:01Z, 2026-11-24, 2h, 3d.")
@click.option("--limit", type=click.IntRange(min=1), metavar="N", help="Only the newest N changes.")
@click.option("--warehouse", metavar="NAME", help="Only what concerns this warehouse.")
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
@_with_settings
def explain(settings: Settings, sku: str, at: str | None, **options: Any) -> int:
    """Tell every change of SKU, what caused it, and the running numbers, from the log alone.

    Exit status 1 if the log does not explain a number, 2 if it knows no such SKU.
    """
    from stocktide.explain import ExplainOptions, run

    if at is not None and (options["since"] is not None or options["limit"] is not None):
        raise click.UsageError("--at asks for one moment: it goes without --since and --limit")
    version = int(at) if at is not None and at.isascii() and at.isdigit() else None
    at_ms = Moment(ends=True).convert(at, None, None) if at is not None and version is None else None
    return run(located(settings), ExplainOptions(sku, version, at_ms, **options))


@cli.command()
@click.argument("folder", type=_FILE)
@_with_settings
def backup(settings: Settings, folder: Path) -> int:
    """Copy all topics into FOLDER, beside live traffic. Redis is made from them."""
    from stocktide.backup import run

    return run(located(settings), folder, click.echo)


@cli.command()
@click.argument("folder", type=_FILE)
@click.option("--check", is_flag=True, help="Only read the backup and see that it is whole.")
@_with_settings
def restore(settings: Settings, folder: Path, check: bool) -> int:
    """Write a backup into an empty Kafka, while no worker and no API runs."""
    from stocktide.restore import run

    return run(settings, folder, check, click.echo)


@cli.command()
@click.argument("file", type=_FILE)
@click.option("--opening", type=click.IntRange(min=1), metavar="N", help="Receive N of every SKU first.")
@click.option("--speed", type=_Speed(), default="max", help="Times real time. [max]")
@click.option("--door", type=click.Choice(["kafka", "http"]), default="kafka", help="How orders go in. [kafka]")
@click.option("--api", metavar="URL", help="The API. [the one of `stocktide up` on this machine]")
@click.option("--kafka", metavar="HOST:PORT", help="Kafka. [the one of `stocktide up` on this machine]")
@click.option("--app-id", help="Prefix of the topics. [that of `stocktide up`, or STOCKTIDE_APP_ID]")
@click.option("--report", type=_FILE, help="Write a JSON report there.")
@click.option("--until", type=click.Choice(["paid", "shipped"]), default="paid", help="Last step. [paid]")
@_with_settings
def replay(settings: Settings, *, api: str | None, kafka: str | None, app_id: str | None, **options: Any) -> int:
    """Stream the real orders of FILE, a CSV or csv.gz with the columns of Online Retail."""
    from loadtest.replay import ReplayOptions, run

    found = located(settings, api=api, kafka=kafka, app_id=app_id)
    return run(
        ReplayOptions(
            api=(api or f"http://127.0.0.1:{found.port}").rstrip("/"),
            kafka=found.kafka,
            app_id=found.app_id,
            security=found.kafka_access(),
            **options,
        )
    )


@cli.command()
@click.option("--data", type=_FILE, help="Keep the shop there. [STOCKTIDE_DATA, else a new one each time]")
@click.option("--port", type=_PORT, help="Port of the page; 0 picks a free one. [STOCKTIDE_PORT, else 8080]")
@_with_settings
def demo(settings: Settings, data: Path | None, port: int | None) -> int:
    """Run a small shop with a flash sale, to be watched in the browser."""
    from stocktide.demo import run

    return run(Settings.from_environment(data=data, port=port))


def _actor(name: str | None) -> str:
    import getpass

    if name is None:
        try:
            name = getpass.getuser()
        except (KeyError, OSError):  # a container without a name for its user
            name = "operator"
    if not 0 < len(name) <= 128 or not name.isprintable():
        raise click.BadParameter("1 to 128 printable characters", param_hint="--actor")
    return name


cli.add_command(dead_letter_group(_with_settings, located))
cli.add_command(with_compare(loadtest_command(_with_settings, located)))
cli.add_command(tester_command(_with_settings))


def main() -> None:
    """The entry point: every failure that has a sentence ends with it and an exit status."""
    try:
        cli.main(standalone_mode=False)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        sys.exit(130)
    except (FrontDoorError, SettingsError) as error:
        _fail(str(error))
    except Exception as error:
        if not _is_told(error):
            raise
        _fail(str(error))


def _is_told(error: Exception) -> bool:
    """Whether the message is made for the reader: the exceptions of the rooms that a command may have entered."""
    rooms = ("streams", "tables", "agents", "api", "loadtest", "stocktide")
    if type(error).__module__.split(".")[0] in rooms:
        return True
    from aiokafka.errors import KafkaError
    from redis.exceptions import RedisError

    return isinstance(error, KafkaError | RedisError)


def _fail(message: str) -> None:
    click.echo(f"stocktide: {message}", err=True)
    sys.exit(1)


if __name__ == "__main__":
    main()
