"""What may go wrong in the model, each a function of the world; drawn as often as it stands in `FAULTS`."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from tests.protocol.model_redis import ModelServer, RedisState

if TYPE_CHECKING:
    from tests.protocol.model import World
    from tests.protocol.model_callers import ModelCaller
    from tests.protocol.model_derivation import Deriver
    from tests.protocol.model_owner import Owner

    Process = ModelCaller | Owner | Deriver

OWNERS_MAX = 3
DERIVERS_MAX = 3
SERVERS_MAX = 4


def _older(world: World, server: ModelServer) -> RedisState:
    """A prefix of what the server executed: it lost some steps, or none."""
    lost = world.draw(len(server.before) + 1)
    return server.before[-lost] if lost else server.state


def redis_restarts(world: World) -> None:
    """The current server comes back as another process, perhaps without its tail."""
    server = world.current
    server.state = _older(world, server)
    server.before.clear()
    server.run_id = f"run-{world.serial()}"
    if world.chance(0.7):
        server.replid = f"repl-{world.serial()}"


def replica_is_promoted(world: World) -> None:
    """A replica that lags takes over; the old primary goes on serving who does not notice."""
    old = world.current
    state = _older(world, old)
    replica = next((each for each in world.servers if each.follows is old), None) or world.new_server(state)
    _promote(world, replica, state)
    _forget_servers(world)


def replica_is_promoted_and_the_old_primary_comes_back_as_a_replica_and_is_promoted_again(world: World) -> None:
    """The same process as before, with another one's data."""
    old = world.current
    replica_is_promoted(world)
    if old in world.servers:
        _promote(world, old, _older(world, world.current))


def _promote(world: World, replica: ModelServer, state: RedisState) -> None:
    replica.state, replica.follows = state, None
    replica.replid = f"repl-{world.serial()}"
    replica.before.clear()
    world.current = replica


def old_server_returns(world: World) -> None:
    """Somebody points everybody at another server, with whatever it holds."""
    world.current = world.servers[world.draw(len(world.servers))]


def old_server_becomes_a_replica(world: World) -> None:
    """Another server takes a copy of the current one; as the same process it may be promoted later."""
    other = world.servers[world.draw(len(world.servers))]
    if other is not world.current:
        other.state, other.replid, other.follows = world.current.state, world.current.replid, world.current
        other.before.clear()


def redis_is_flushed(world: World) -> None:
    """FLUSHALL."""
    world.current.put(**RedisState()._asdict())


def redis_is_empty(world: World) -> None:
    """Another, empty server."""
    world.current = world.new_server(RedisState())
    _forget_servers(world)


def _forget_servers(world: World) -> None:
    """The oldest ones end, but not under those who are connected."""
    while len(world.servers) > SERVERS_MAX:
        gone = world.servers.pop(0)
        if gone is world.current:
            world.servers.append(gone)
            continue
        for client in (*world.callers, *world.owners):
            if client.server is gone:
                client.server = world.current


def client_reconnects(world: World) -> None:
    """A caller or an owner reaches the current server from now on."""
    clients = [*world.callers, *world.owners]
    clients[world.draw(len(clients))].server = world.current


def owner_appears(world: World) -> None:
    """Another process believes to own the shard; those before may go on."""
    if len(world.owners) < OWNERS_MAX:
        world.new_owner()


def owner_dies(world: World) -> None:
    """A process ends; the shard may be assigned to another one."""
    if world.owners:
        world.owners[world.draw(len(world.owners))].close()
        world.drop_closed()
    if world.chance(0.5):
        owner_appears(world)


def _processes(world: World) -> list[Process]:
    return [*world.callers, *world.owners, *world.owners, *world.derivers, *world.derivers]


def process_is_stopped(world: World) -> None:
    """SIGSTOP, in the middle of whatever it does."""
    processes = _processes(world)
    processes[world.draw(len(processes))].paused = True


def process_goes_on(world: World) -> None:
    """SIGCONT, perhaps long after it was replaced."""
    stopped = [process for process in _processes(world) if process.paused]
    if stopped:
        stopped[world.draw(len(stopped))].paused = False


def append_fails(world: World) -> None:
    """The broker refuses what is on its way."""
    if (sent := world.take_from_a_producer()) is not None:
        sent.failed = True


def deriver_is_assigned_anew(world: World) -> None:
    """A rebalance; the one before may not have noticed."""
    if len(world.derivers) >= DERIVERS_MAX:
        world.derivers[0].close()
        world.drop_closed()
    world.new_deriver()


def journal_is_cut(world: World) -> None:
    """The journal's head ages out: days after whatever was late has arrived."""
    table = world.table
    if not world.rules.journal_is_cut_below_what_is_whole:
        world.journal.first = max(world.journal.first, world.draw(world.journal.end + 1))
    elif table.whole is not None and not table.late and not any(deriver.is_stale for deriver in world.derivers):
        world.journal.first = max(world.journal.first, table.whole.offset)


Fault = Callable[["World"], None]

FAULTS: tuple[Fault, ...] = (
    *(redis_restarts,) * 3,
    *(replica_is_promoted,) * 3,
    *(old_server_returns,) * 2,
    old_server_becomes_a_replica,
    replica_is_promoted_and_the_old_primary_comes_back_as_a_replica_and_is_promoted_again,
    redis_is_flushed,
    redis_is_empty,
    *(client_reconnects,) * 10,
    *(owner_appears,) * 3,
    *(owner_dies,) * 2,
    *(process_is_stopped,) * 5,
    *(process_goes_on,) * 7,
    *(append_fails,) * 2,
    *(deriver_is_assigned_anew,) * 3,
    *(journal_is_cut,) * 2,
)
