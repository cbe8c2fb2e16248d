"""The faults of the model, functions of the world; each is drawn as often as `FAULTS` lists it."""

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
    """The current server restarts as another process, perhaps without its tail."""
    server = world.current
    server.state = _older(world, server)
    server.before.clear()
    server.run_id = f"run-{world.serial()}"
    if world.chance(0.7):
        server.replid = f"repl-{world.serial()}"


def replica_is_promoted(world: World) -> None:
    """A lagging replica is promoted; the old primary still serves its connections."""
    old = world.current
    state = _older(world, old)
    replica = next((each for each in world.servers if each.follows is old), None) or world.new_server(state)
    _promote(world, replica, state)
    _forget_servers(world)


def old_primary_is_promoted_again(world: World) -> None:
    """The old primary process serves again, with the data of the promoted one."""
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
    """New connections reach another server, with its own state."""
    world.current = world.servers[world.draw(len(world.servers))]


def old_server_becomes_a_replica(world: World) -> None:
    """Another server copies the current one; the same process may be promoted later."""
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
    """End the oldest servers; their clients reconnect."""
    while len(world.servers) > SERVERS_MAX:
        oldest = world.servers.pop(0)
        if oldest is world.current:
            world.servers.append(oldest)
            continue
        for client in (*world.callers, *world.owners):
            if client.server is oldest:
                client.server = world.current


def client_reconnects(world: World) -> None:
    """A caller or an owner connects to the current server."""
    clients = [*world.callers, *world.owners]
    clients[world.draw(len(clients))].server = world.current


def owner_appears(world: World) -> None:
    """Another process takes the shard for its own; earlier ones may go on."""
    if len(world.owners) < OWNERS_MAX:
        world.new_owner()


def owner_ends(world: World) -> None:
    """An owner ends; the shard may be assigned to another one."""
    if world.owners:
        world.owners[world.draw(len(world.owners))].close()
        world.drop_closed()
    if world.chance(0.5):
        owner_appears(world)


def _processes(world: World) -> list[Process]:
    return [*world.callers, *world.owners, *world.owners, *world.derivers, *world.derivers]


def process_is_stopped(world: World) -> None:
    """SIGSTOP, at any step."""
    processes = _processes(world)
    processes[world.draw(len(processes))].paused = True


def process_resumes(world: World) -> None:
    """SIGCONT, perhaps long after the process was replaced."""
    stopped = [process for process in _processes(world) if process.paused]
    if stopped:
        stopped[world.draw(len(stopped))].paused = False


def append_fails(world: World) -> None:
    """The broker refuses a record in flight."""
    if (sent := world.take_from_a_producer()) is not None:
        sent.failed = True


def deriver_is_reassigned(world: World) -> None:
    """A rebalance that the earlier assignment may not have noticed."""
    if len(world.derivers) >= DERIVERS_MAX:
        world.derivers[0].close()
        world.drop_closed()
    world.new_deriver()


def journal_is_trimmed(world: World) -> None:
    """The journal's head ages out, days after all late rows have arrived."""
    table = world.table
    if not world.rules.journal_is_trimmed_below_the_last_whole_pass:
        world.journal.first = max(world.journal.first, world.draw(world.journal.end + 1))
    elif table.whole is not None and not table.late and not any(deriver.is_stale for deriver in world.derivers):
        world.journal.first = max(world.journal.first, table.whole.offset)


Fault = Callable[["World"], None]

FAULTS: tuple[Fault, ...] = (
    *(redis_restarts,) * 3,
    *(replica_is_promoted,) * 3,
    *(old_server_returns,) * 2,
    old_server_becomes_a_replica,
    old_primary_is_promoted_again,
    redis_is_flushed,
    redis_is_empty,
    *(client_reconnects,) * 10,
    *(owner_appears,) * 3,
    *(owner_ends,) * 2,
    *(process_is_stopped,) * 5,
    *(process_resumes,) * 7,
    *(append_fails,) * 2,
    *(deriver_is_reassigned,) * 3,
    *(journal_is_trimmed,) * 2,
)
