"""Judges what the doctor read of a Kafka cluster.

In: a `ClusterView` and the settings that it should have. Out: findings.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from stocktide.doctor.finding import Finding, good, note, unfit, wrong
from stocktide.streams.kafka.admin import SAFE_BROKERS, SAFE_INSYNC_REPLICAS, SAFE_REPLICAS, topic_settings
from stocktide.streams.kafka.groups import deciding_group, publishing_group
from stocktide.streams.topics import JOURNAL, TOPICS, Topic

# The topic of the committed offsets.
OFFSETS_TOPIC = "__consumer_offsets"
# The suffix of the changelog topics that Faust creates for tables without a topic of their own.
CHANGELOG = "-changelog"
NO_LIMIT = "-1"


@dataclass(frozen=True, slots=True)
class PartitionView:
    """A partition: its replicas, those in sync, and whether it has a leader."""

    replicas: int
    in_sync: int
    led: bool


@dataclass(frozen=True, slots=True)
class GroupOffset:
    """The committed offset of the workers' group in a partition, and the partition's first and end offset."""

    topic: str
    partition: int
    committed: int
    first: int
    end: int


@dataclass(frozen=True, slots=True)
class ClusterView:
    """What was read. `brokers` also counts those that are down, as far as the replicas show. `alive`: those that
    answer. Settings that the ACL hides are absent; `group_offsets` is None where it hides them."""

    brokers: int
    topics: Mapping[str, tuple[PartitionView, ...]]
    settings: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    broker_settings: Mapping[int, Mapping[str, str]] = field(default_factory=dict)
    alive: tuple[int, ...] = ()
    group_offsets: tuple[GroupOffset, ...] | None = ()


def expected_topics(app_id: str, topics: Iterable[str]) -> dict[str, Topic | None]:
    """The full names of Stocktide's topics, and of the changelog topics that Faust created (None)."""
    known: dict[str, Topic | None] = {topic.full_name(app_id): topic for topic in TOPICS}
    changelogs = (name for name in topics if name.startswith(f"{app_id}-") and name.endswith(CHANGELOG))
    return {**known, **dict.fromkeys(changelogs)}


def judge_cluster(view: ClusterView, app_id: str, partitions: int) -> Iterator[Finding]:
    """All findings about topics, brokers and the group. `partitions`: the number in the settings."""
    expected = expected_topics(app_id, view.topics)
    missing = [name for name in expected if name not in view.topics]
    if missing:
        yield wrong(
            "topics are missing, or we may not see them; `stocktide topics --create` makes them: " + ", ".join(missing)
        )
    else:
        yield good(f"all {len(TOPICS)} topics are there")
    if view.brokers < SAFE_BROKERS:
        yield note(f"with {view.brokers} broker(s) the loss of a disk loses the log; production has {SAFE_BROKERS}")
    for name, topic in expected.items():
        if name not in view.topics:
            continue
        if topic is not None and len(view.topics[name]) != (topic.partitions or partitions):
            yield unfit(
                f"topic {name} has {len(view.topics[name])} partitions and the settings say "
                f"{topic.partitions or partitions}: its keys would lie where nothing reads them; set "
                "STOCKTIDE_PARTITIONS to what is there, or use another STOCKTIDE_APP_ID"
            )
        yield from judge_replicas(name, view)
        found = view.settings.get(name)
        if found is None:
            yield note(f"topic {name}: its settings could not be looked at: allow DescribeConfigs on it")
        else:
            yield from judge_durability(name, found, view)
            if topic is not None:
                yield from judge_retention(name, topic, found, view.brokers)
    yield from judge_brokers(view)
    if view.group_offsets is None:
        yield note(
            f"how far the workers have read could not be looked at: allow Read on the groups "
            f"{deciding_group(app_id)} and {publishing_group(app_id)}"
        )
    else:
        yield from judge_group_offsets(view.group_offsets)


def judge_replicas(name: str, view: ClusterView) -> Iterator[Finding]:
    """Number of replicas, leaders, replicas in sync."""
    replicas = min(part.replicas for part in view.topics[name])
    if view.brokers >= SAFE_BROKERS and replicas < SAFE_REPLICAS:
        yield wrong(
            f"topic {name} has {replicas} replica(s) on {view.brokers} brokers: the loss of one broker loses what was "
            "promised; give it 3 with kafka-reassign-partitions.sh"
        )
    for number, part in enumerate(view.topics[name]):
        if not part.led:
            yield wrong(
                f"topic {name}: partition {number} has no leader, so nothing is read or written there; start the "
                "brokers that hold it"
            )
        elif part.in_sync < part.replicas:
            yield wrong(
                f"topic {name}: of the {part.replicas} replicas of partition {number}, {part.in_sync} are in sync; a "
                "broker is down, or too slow to follow"
            )


def judge_durability(name: str, found: Mapping[str, str], view: ClusterView) -> Iterator[Finding]:
    """Whether acknowledged records survive the loss of a broker."""
    replicas = min(part.replicas for part in view.topics[name])
    in_sync = int(found.get("min.insync.replicas", "1"))
    if in_sync > replicas:
        yield unfit(
            f"topic {name} has min.insync.replicas={in_sync} and {replicas} replica(s): nothing can be written to it"
        )
    elif replicas >= SAFE_REPLICAS and in_sync < SAFE_INSYNC_REPLICAS:
        yield wrong(
            f"topic {name} has min.insync.replicas={in_sync}: a broker that is left alone goes on answering, and with "
            f"it dies what it answered; {SAFE_INSYNC_REPLICAS}"
        )
    elif replicas >= SAFE_REPLICAS and in_sync == replicas:
        yield note(
            f"topic {name} has min.insync.replicas={in_sync}, as many as replicas: the loss of any broker stops all "
            f"writing; {SAFE_INSYNC_REPLICAS}"
        )
    if replicas > 1 and found.get("unclean.leader.election.enable") == "true":
        yield wrong(
            f"topic {name} has unclean.leader.election.enable=true: a broker that lags may lead, and what it lacks is "
            "lost; false"
        )


def judge_retention(name: str, topic: Topic, found: Mapping[str, str], brokers: int) -> Iterator[Finding]:
    """Whether records are kept as long as they are needed."""
    wanted = topic_settings(topic, brokers)
    cleanup = found.get("cleanup.policy", "")
    if sorted(cleanup.split(",")) != sorted(wanted["cleanup.policy"].split(",")):
        yield wrong(
            f"topic {name} has cleanup.policy={cleanup}, not {wanted['cleanup.policy']}: it "
            + (
                "drops records that are needed"
                if "compact" not in topic.cleanup
                else "keeps what it should not, or less"
            )
        )
    if "delete" in topic.cleanup:
        kept, needed = int(found.get("retention.ms", NO_LIMIT)), int(wanted.get("retention.ms", NO_LIMIT))
        if kept != -1 and (needed == -1 or kept < needed):
            yield wrong(
                f"topic {name} has retention.ms={kept}, less than {wanted.get('retention.ms', NO_LIMIT)}: records go "
                "before they were of no more use"
            )
        if found.get("retention.bytes", NO_LIMIT) != NO_LIMIT:
            yield wrong(
                f"topic {name} has retention.bytes={found['retention.bytes']}: what is over that is deleted, whether "
                "it was read or not; -1"
            )
    largest, needed = int(found.get("max.message.bytes", "0")), int(wanted["max.message.bytes"])
    if largest < needed:
        yield wrong(f"topic {name} has max.message.bytes={largest}: a large order is refused; {needed}")
    if topic is JOURNAL and "flush.messages" in wanted and found.get("flush.messages") != wanted["flush.messages"]:
        yield wrong(
            f"topic {name} has flush.messages={found.get('flush.messages')} with one replica: a power cut loses "
            "answers that were given; 1"
        )
    if "segment.bytes" in wanted and int(found.get("segment.bytes", "0")) > int(wanted["segment.bytes"]):
        yield note(
            f"topic {name} has segment.bytes={found['segment.bytes']}: it is compacted late, and every start reads "
            f"more of it; {wanted['segment.bytes']}"
        )


def judge_brokers(view: ClusterView) -> Iterator[Finding]:
    """Broker defaults that affect other topics, above all the one of the committed offsets."""
    if view.brokers >= SAFE_BROKERS and (parts := view.topics.get(OFFSETS_TOPIC)):
        replicas = min(part.replicas for part in parts)
        if replicas < SAFE_REPLICAS:
            yield wrong(
                f"{OFFSETS_TOPIC} has {replicas} replica(s): the loss of one broker stops the workers; "
                "offsets.topic.replication.factor=3 before its first use, kafka-reassign-partitions.sh after it"
            )
    if len(view.broker_settings) < len(view.alive):
        yield note("the brokers' own settings could not be looked at: allow DescribeConfigs on the cluster")
    for number, found in sorted(view.broker_settings.items()):
        if found.get("auto.create.topics.enable") == "true":
            yield note(
                f"broker {number} has auto.create.topics.enable=true: whoever misspells a topic's name, or sends "
                "before `stocktide topics --create`, makes one with settings that are not ours; false"
            )
        if view.brokers < SAFE_BROKERS:
            continue
        if int(found.get("min.insync.replicas", "1")) < SAFE_INSYNC_REPLICAS:
            yield note(
                f"broker {number} has min.insync.replicas={found.get('min.insync.replicas')}, which {OFFSETS_TOPIC} "
                f"takes: with the last broker may go how far was read, and it is read again; {SAFE_INSYNC_REPLICAS}"
            )
        if found.get("unclean.leader.election.enable") == "true":
            yield note(
                f"broker {number} has unclean.leader.election.enable=true, which {OFFSETS_TOPIC} takes: how far was "
                "read may go back, and it is read again; false"
            )


def judge_group_offsets(group_offsets: Iterable[GroupOffset]) -> Iterator[Finding]:
    """Whether records were deleted before they were read."""
    for at in sorted(group_offsets, key=lambda reading: (reading.topic, reading.partition)):
        if at.committed < at.first:
            yield wrong(
                f"topic {at.topic}, partition {at.partition}: {at.first - at.committed} record(s) were deleted before "
                "a worker had read them; whoever sent them may send them again: ids make that safe"
            )
        elif at.committed > at.end:
            yield wrong(
                f"topic {at.topic}, partition {at.partition} ends at {at.end}, but the workers had read up to "
                f"{at.committed}: the topic lost its end, or was made anew"
            )
