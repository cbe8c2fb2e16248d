"""The command line: each command reads its options and calls `run` of its module with the settings.

In: arguments and the environment. Out: an exit status. A failure is a sentence with status 2 for a wrong request, 1 for
one that could not be carried out.
"""

from __future__ import annotations

import asyncio
import functools
import os
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from stocktide.cli_options import ServerOption, SpeedParam, TimeParam
from stocktide.discovery import LocateSystem, for_system
from stocktide.errors import CommandError, StocktideError
from stocktide.ops.alerts import alerts_group
from stocktide.ops.dead_letters.group import dead_letter_group
from stocktide.ops.keys import keys_group
from stocktide.ops.loadtest import loadtest_group, tester_command
from stocktide.ops.mapping import mapping_group
from stocktide.settings import ALL, DECIDE, PUBLISH, Settings, unread_variables

_FILE = click.Path(path_type=Path)
_PORT = click.IntRange(0, 65_535)
_OPEN = click.option("--open", "is_open", is_flag=True, help="Without keys, on loopback only. [STOCKTIDE_OPEN]")


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="stocktide")
def cli() -> None:
    """One true stock count for goods that are sold in many places at once."""
    for warning in unread_variables():
        click.echo(f"stocktide: {warning}", err=True)


def _with_settings(command: Callable[..., int]) -> Callable[..., None]:
    """A decorator: passes the settings of the environment, and exits with the returned status."""

    @functools.wraps(command)
    def wrapped(**options: Any) -> None:
        sys.exit(command(Settings.from_environment(), **options))

    return wrapped


@cli.command(short_help="Run all of it on this machine, and serve the board.")
@click.option("--data", type=_FILE, help="Folder of everything that stays. [STOCKTIDE_DATA, else ./data]")
@click.option("--port", type=_PORT, help="Port of the API; 0 picks a free one. [STOCKTIDE_PORT, else 8080]")
@click.option("--kafka", cls=ServerOption, metavar="HOST:PORT", help="A Kafka of yours, not the embedded one.")
@click.option("--redis", cls=ServerOption, metavar="URL", help="A Redis or Valkey of yours, not the embedded one.")
@click.option("--ready-file", type=_FILE, help="Written when it serves: addresses, process ids and keys, as JSON.")
@click.option("--with-prometheus", is_flag=True, help="Start the Prometheus that is installed, too.")
@_OPEN
def up(
    data: Path | None,
    port: int | None,
    kafka: str | None,
    redis: str | None,
    ready_file: Path | None,
    with_prometheus: bool,
    is_open: bool,
) -> None:
    """Run everything on this machine: Kafka, Valkey, worker, API, board."""
    from stocktide.up.command import run
    from stocktide.up.system import UpOptions

    options = UpOptions(
        embed_kafka=kafka is None and "STOCKTIDE_KAFKA" not in os.environ,
        embed_redis=redis is None and "STOCKTIDE_REDIS" not in os.environ,
        ready_file=ready_file,
        with_prometheus=with_prometheus,
    )
    settings = Settings.from_environment(data=data, port=port, kafka=kafka, redis=redis, open=1 if is_open else None)
    sys.exit(run(settings, options))


@cli.command(short_help="Run one worker; any number may run.")
@click.option(
    "--role",
    type=click.Choice([DECIDE, PUBLISH, ALL]),
    help="decide: events, the relay; publish: the derived topics, the tables. [STOCKTIDE_WORKER_ROLE, else all]",
)
@_with_settings
def worker(settings: Settings, role: str | None) -> int:
    """Run one worker: the agents, the relay, the tables. Any number may run, of each role."""
    from stocktide.up.preflight import check_files, check_servers

    settings = replace(settings, worker_role=role or settings.worker_role)
    check_files(settings, worker=True)
    asyncio.run(check_servers(settings, _echo_error, create_topics=True))
    from stocktide.worker import run

    return run(settings)


@cli.command(short_help="Run one API process; any number may run.")
@_OPEN
@_with_settings
def api(settings: Settings, is_open: bool) -> int:
    """Run one API process. Any number may run."""
    settings = Settings.from_environment(open=1 if is_open else None)
    from stocktide.api_access import read_keys
    from stocktide.up.preflight import check_files, check_servers

    check_files(settings, api=True)
    read_keys(settings)
    asyncio.run(check_servers(settings, _echo_error))
    from stocktide.api_server import run

    return run(settings)


@cli.command(short_help="List the topics and how they are on the broker.")
@click.option("--create", is_flag=True, help="Create those that are missing.")
@for_system()
def topics(locate: LocateSystem, create: bool) -> int:
    """List the topics: key, writer, what each holds, and how it is on the broker."""
    from stocktide.ops.topics import run

    return run(locate("topics --create" if create else "").settings, create)


@cli.command(short_help="Rebuild an empty Redis from the log.")
@click.option("--check", is_flag=True, help="A drill: into the Redis of --redis, which must not be in use.")
@click.option("--redis", "url", metavar="URL", help="The Redis of the drill.")
@click.option("--force", is_flag=True, help="Forget what that Redis holds of this app.")
@for_system(redis=False)
def rebuild(locate: LocateSystem, check: bool, url: str | None, force: bool) -> int:
    """Rebuild an empty Redis from the log, and compare the digests. Exit status 1 if they differ."""
    from stocktide.ops.rebuild import run

    if check != (url is not None):
        raise click.UsageError("--check and --redis go together: the Redis in use is rebuilt without either")
    settings = locate("rebuild --check" if check else "rebuild", url).settings
    return run(settings, url, force)


@cli.command(short_help="Compare log, tables and Redis; change nothing.")
@click.option("--sku", "skus", multiple=True, metavar="SKU", help="Only this one and its orders; may be repeated.")
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
@click.option("--background", is_flag=True, help="Without bars, and behind everything else that runs here.")
@for_system()
def audit(locate: LocateSystem, **options: Any) -> int:
    """Compare log, tables and Redis beside live traffic; change nothing.

    Exit status 1 if something differs and stays so, 2 if the audit could not be finished.
    """
    from stocktide.ops.audit import AuditOptions, run

    return run(locate().settings, AuditOptions(**options))


@cli.command(short_help="Put right what an audit finds.")
@click.option("--plan", is_flag=True, help="Show what a repair would change; change nothing.")
@click.option("--apply", is_flag=True, help="Carry it out, beside live traffic, and audit again.")
@click.option("--sku", "skus", multiple=True, metavar="SKU", help="Only this one and its orders; may be repeated.")
@click.option("--actor", metavar="NAME", help="On whose behalf; it goes into the log. [the user of this machine]")
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
@for_system()
def repair(locate: LocateSystem, plan: bool, apply: bool, actor: str | None, **options: Any) -> int:
    """Put right what an audit finds: each correction a batch of its own in the log, with its cause.

    Exit status 1 if something differs (still, with --apply), 2 if it could not be finished.
    """
    from stocktide.ops.repair import RepairOptions, run

    if plan == apply:
        raise click.UsageError("say --plan or --apply")
    repairs = RepairOptions(apply, _actor(actor), **options)
    return run(locate("repair --apply" if apply else "").settings, repairs)


@cli.command(short_help="Show the settings; find what is missing or unsafe.")
@click.option("--deploy", "is_deployed", is_flag=True, help="Also this process: run it where a worker or an API runs.")
@for_system()
def doctor(locate: LocateSystem, is_deployed: bool) -> int:
    """Show the settings and look for what is missing or unsafe. Exit status 1 if something is wrong."""
    from stocktide.doctor.command import run

    return run(locate().settings, is_deployed)


@cli.command(short_help="Tell every change of a SKU, from the log alone.")
@click.argument("sku")
@click.option("--at", metavar="TIME|VERSION", help="Where it stood then, instead of how it came there.")
@click.option("--since", type=TimeParam(), help="Only changes since then: 2026-11-24T19:26:01Z, 2026-11-24, 2h, 3d.")
@click.option("--limit", type=click.IntRange(min=1), metavar="N", help="Only the newest N changes.")
@click.option("--warehouse", metavar="NAME", help="Only what concerns this warehouse.")
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
@for_system()
def explain(locate: LocateSystem, sku: str, at: str | None, **options: Any) -> int:
    """Tell every change of SKU, what caused it, and the running numbers, from the log alone.

    Exit status 1 if the log does not explain a number, 2 if it knows no such SKU.
    """
    from stocktide.ops.explain.command import ExplainOptions, run

    if at is not None and (options["since"] is not None or options["limit"] is not None):
        raise click.UsageError("--at asks for one moment: it goes without --since and --limit")
    version = int(at) if at is not None and at.isascii() and at.isdigit() else None
    at_ms = TimeParam(ends=True).convert(at, None, None) if at is not None and version is None else None
    return run(locate().settings, ExplainOptions(sku, version, at_ms, **options))


@cli.command(short_help="Copy all topics into a folder, beside live traffic.")
@click.argument("folder", type=_FILE)
@for_system()
def backup(locate: LocateSystem, folder: Path) -> int:
    """Copy all topics into FOLDER, beside live traffic. Redis is made from them."""
    from stocktide.ops.backup.backup import run

    return run(locate().settings, folder)


@cli.command(short_help="Write a backup into an empty Kafka.")
@click.argument("folder", type=_FILE)
@click.option("--check", is_flag=True, help="Only read the backup and see that it is whole.")
@for_system()
def restore(locate: LocateSystem, folder: Path, check: bool) -> int:
    """Write a backup into an empty Kafka, while no worker and no API runs."""
    from stocktide.ops.backup.restore import run

    settings = Settings.from_environment() if check else locate("restore").settings
    return run(settings, folder, check)


@cli.command(short_help="Stream the real orders of a file, with a proof.")
@click.argument("file", type=_FILE)
@click.option("--opening", type=click.IntRange(min=1), metavar="N", help="Receive N of every SKU first.")
@click.option("--speed", type=SpeedParam(), default="max", help="Times real time. [max]")
@click.option("--door", type=click.Choice(["kafka", "http"]), default="kafka", help="How orders go in. [kafka]")
@click.option("--report", type=_FILE, help="Write a JSON report there.")
@click.option(
    "--dates", type=click.Choice(["iso", "mdy", "dmy"]), default="iso", help="2010-12-31, 12/31/10, 31/12/10. [iso]"
)
@click.option("--encoding", default="utf-8", metavar="NAME", help="Of the file: cp1252, gb18030, ... [utf-8]")
@click.option("--until", type=click.Choice(["paid", "shipped"]), default="paid", help="Last step. [paid]")
@for_system()
def replay(locate: LocateSystem, **options: Any) -> int:
    """Stream the real orders of FILE, a CSV (also gz or zip) of Online Retail or Online Retail II."""
    from stocktide.loadtest.replay.replay import ReplayOptions, run

    target = locate("replay")
    settings = target.settings
    return run(
        ReplayOptions(
            api=target.api,
            kafka=settings.kafka,
            app_id=settings.app_id,
            security=settings.kafka_access(),
            **options,
        )
    )


@cli.command(short_help="Run a small shop with a flash sale, to be watched.")
@click.option("--data", type=_FILE, help="Keep the shop there. [STOCKTIDE_DATA, else a new one each time]")
@click.option("--port", type=_PORT, help="Port of the page; 0 picks a free one. [STOCKTIDE_PORT, else 8080]")
@_with_settings
def demo(settings: Settings, data: Path | None, port: int | None) -> int:
    """Run a small shop with a flash sale, to be watched in the browser."""
    from stocktide.demo.command import run

    return run(Settings.from_environment(data=data, port=port))


def _echo_error(line: str) -> None:
    click.echo(line, err=True)


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


cli.add_command(alerts_group())
cli.add_command(dead_letter_group())
cli.add_command(mapping_group())
cli.add_command(keys_group())
cli.add_command(loadtest_group())
cli.add_command(tester_command(_with_settings))


def run() -> None:
    """Run the command of the arguments: print a failure as a sentence, and exit with its status."""
    try:
        cli.main(standalone_mode=False)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except click.Abort as error:  # Ctrl-C
        raise KeyboardInterrupt from error
    except CommandError as error:
        _fail(str(error), error.exit_status)
    except Exception as error:
        if not _has_message_for_user(error):
            raise
        _fail(str(error))


def _has_message_for_user(error: Exception) -> bool:
    """Whether the message is for the user. Any other exception is a bug and shows its traceback."""
    from aiokafka.errors import KafkaError
    from redis.exceptions import RedisError

    return isinstance(error, StocktideError | KafkaError | RedisError)


def _fail(message: str, status: int = 1) -> None:
    click.echo(f"stocktide: {message}", err=True)
    sys.exit(status)
