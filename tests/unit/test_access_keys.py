"""Keys: their form, their file, and how an API process looks them up."""

from __future__ import annotations

import hmac
import stat
import timeit
from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner

from stocktide.api.access.key_file import KeyFile, KeyRecord, read_key_file
from stocktide.api.access.key_ring import LAST_USE_FILE, KeyRing, read_last_use
from stocktide.api.access.keys import NewKey, id_of, make_key
from stocktide.command_line import cli
from stocktide.errors import CommandError
from stocktide.up.first_keys import make_first_keys

NOW = 1_800_000_000.0


class Clock:
    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> float:
        return self.now


class CountedCompare:
    """Compares digests, and counts how often."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self, a: bytes, b: bytes) -> bool:
        self.count += 1
        assert len(a) == len(b)
        return hmac.compare_digest(a, b)


def record_of(key: NewKey, holder: str = "chen", expires_at: int | None = None) -> KeyRecord:
    return KeyRecord(
        id=key.id, role="viewer", holder=holder, digest=key.digest, created_at=int(NOW), expires_at=expires_at
    )


def added(file: Path, holder: str = "chen", expires_at: int | None = None) -> NewKey:
    key = make_key("test")
    assert KeyFile(file).add(record_of(key, holder, expires_at), NOW) is None
    return key


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "access" / "keys.json"


def ring_of(file: Path, clock: Clock | None = None, compare: CountedCompare | None = None) -> KeyRing:
    ring = KeyRing(file, clock or Clock(), compare or hmac.compare_digest)
    ring.load()
    return ring


def test_a_key_names_its_environment_and_has_160_random_bits_and_a_checksum() -> None:
    key = make_key("live")
    head, env, key_id, rest = key.text.split("_")
    assert (head, env, key_id) == ("stk", "live", key.id)
    assert len(rest) == 32 + 8  # base32 of 160 bits, and a CRC-32
    assert make_key("live").text != key.text


def test_a_key_with_a_typing_error_has_no_id() -> None:
    text = make_key("live").text
    wrong = text[:-9] + ("a" if text[-9] != "a" else "b") + text[-8:]
    assert id_of(text) is not None
    assert id_of(wrong) is None


@pytest.mark.parametrize("env", ["", "Live", "a_b", "x" * 17])
def test_an_environment_is_a_short_name(env: str) -> None:
    with pytest.raises(ValueError, match="1 to 16"):
        make_key(env)


def test_the_file_is_for_its_owner_only_and_holds_no_key(file: Path) -> None:
    key = added(file)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700
    secret = key.text.rpartition("_")[2]
    assert secret not in file.read_text()
    assert secret[:32] not in file.read_text()


def test_a_holder_has_at_most_two_live_keys(file: Path) -> None:
    added(file)
    added(file)
    assert "2 live keys" in (KeyFile(file).add(record_of(make_key("test")), NOW) or "")
    assert KeyFile(file).add(record_of(make_key("test"), holder="li"), NOW) is None


def test_a_rotated_key_stays_until_its_overlap_ends(file: Path) -> None:
    old, new, clock = added(file), make_key("test"), Clock()
    assert isinstance(KeyFile(file).rotate(old.id, new.id, new.digest, NOW, 60), KeyRecord)
    ring = ring_of(file, clock)
    assert ring.authenticate(old.text) is not None
    assert ring.authenticate(new.text) is not None
    clock.now += 60
    assert ring.authenticate(old.text) is None
    assert ring.authenticate(new.text) is not None


def test_a_key_that_is_rotated_twice_within_the_overlap_is_refused(file: Path) -> None:
    old = added(file)
    second, third = make_key("test"), make_key("test")
    KeyFile(file).rotate(old.id, second.id, second.digest, NOW, 60)
    assert "2 live keys" in str(KeyFile(file).rotate(second.id, third.id, third.digest, NOW, 60))


def test_a_revoked_key_is_unknown_once_the_file_is_read_again(file: Path) -> None:
    key = added(file)
    ring = ring_of(file)
    assert ring.authenticate(key.text) is not None
    assert KeyFile(file).revoke(key.id)
    assert ring.load()
    assert ring.authenticate(key.text) is None


def test_an_unchanged_file_is_not_read_again(file: Path) -> None:
    added(file)
    assert not ring_of(file).load()


def test_a_broken_file_leaves_the_known_keys(file: Path) -> None:
    key = added(file)
    ring = ring_of(file)
    file.write_text("{")
    with pytest.raises(msgspec.MsgspecError):
        ring.load()
    assert ring.authenticate(key.text) is not None


def test_unknown_malformed_wrong_and_expired_keys_are_compared_as_often_as_valid_ones(file: Path) -> None:
    key, expired = added(file), added(file, "li", int(NOW) - 1)
    unknown = make_key("test").text
    wrong = make_key("test").text
    compare = CountedCompare()
    ring = ring_of(file, compare=compare)
    for text, is_known in [(key.text, True), (unknown, False), (wrong, False), (expired.text, False), ("x", False)]:
        before = compare.count
        assert (ring.authenticate(text) is not None) == is_known
        assert compare.count == before + 1


def test_a_key_with_the_id_of_another_one_is_refused(file: Path) -> None:
    import zlib

    key = added(file)
    body = f"stk_test_{key.id}_{'a' * 32}"
    forged = f"{body}{zlib.crc32(body.encode()):08x}"
    assert id_of(forged) == key.id
    assert ring_of(file).authenticate(forged) is None


def test_the_check_of_a_key_takes_microseconds(file: Path) -> None:
    key = added(file)
    ring = ring_of(file)
    seconds = min(timeit.repeat(lambda: ring.authenticate(key.text), number=1000, repeat=20)) / 1000
    assert seconds < 50e-6  # about 4 µs on a quiet machine


def test_watchers_hear_of_a_revoked_key_once_and_of_no_other(file: Path) -> None:
    key, other = added(file), added(file, "li")
    ring = ring_of(file)
    heard: list[str] = []
    callers = [ring.authenticate(each.text) for each in (key, other)]
    assert callers[0] is not None
    assert callers[1] is not None
    with ring.watched(callers[0], lambda: heard.append("chen")), ring.watched(callers[1], lambda: heard.append("li")):
        ring.end_invalid()
        assert heard == []
        KeyFile(file).revoke(key.id)
        ring.load()
        ring.end_invalid()
        ring.end_invalid()
    assert heard == ["chen"]


def test_the_last_use_is_kept_to_the_hour(file: Path) -> None:
    key = added(file)
    ring = ring_of(file)
    ring.authenticate(key.text)
    ring.write_last_use()
    assert read_last_use(file.with_name(LAST_USE_FILE)) == {key.id: int(NOW) // 3600 * 3600}


def test_the_first_keys_are_the_same_after_a_restart_and_without_the_revoked_ones(tmp_path: Path) -> None:
    file = tmp_path / "access" / "keys.json"
    keys = make_first_keys(tmp_path, file)
    assert {"operator", "channel", "warehouse", "viewer", "metrics"} <= keys.keys()
    assert stat.S_IMODE((tmp_path / "access" / "first-keys.json").stat().st_mode) == 0o600
    assert make_first_keys(tmp_path, file) == keys
    viewer = next(record for record in read_key_file(file).keys if record.role == "viewer")
    KeyFile(file).revoke(viewer.id)
    assert make_first_keys(tmp_path, file).keys() == keys.keys() - {"viewer"}


@pytest.mark.parametrize(
    "wrong",
    [
        {"role": "channel"},
        {"role": "viewer", "channel": "own"},
        {"role": "warehouse"},
        {"role": "warehouse", "warehouses": ("SH1",), "all_warehouses": True},
        {"role": "viewer", "all_warehouses": True},
        {"role": "king"},
        {"role": "viewer", "rights": ("fly",)},
    ],
)
def test_a_key_without_its_scope_or_with_an_unknown_right_is_not_added(file: Path, wrong: dict[str, object]) -> None:
    record = msgspec.structs.replace(record_of(make_key("test")), **wrong)
    assert KeyFile(file).add(record, NOW) is not None
    assert read_key_file(file).keys == ()


def test_a_key_of_a_warehouse_is_for_all_only_where_its_record_says_so() -> None:
    record = msgspec.structs.replace(record_of(make_key("test")), role="warehouse")
    assert record.caller().warehouses == ()
    assert msgspec.structs.replace(record, warehouses=("SH1",)).caller().warehouses == ("SH1",)
    assert msgspec.structs.replace(record, all_warehouses=True).caller().warehouses is None


@pytest.mark.parametrize(
    "arguments", [["list"], ["add", "viewer", "--holder", "anna"], ["rotate", "abc"], ["revoke", "abc"]]
)
@pytest.mark.parametrize(("content", "reason"), [("", "truncated"), (None, "keys.json)")])
def test_a_file_of_keys_that_cannot_be_used_is_named_with_the_reason(
    tmp_path: Path, arguments: list[str], content: str | None, reason: str
) -> None:
    path = tmp_path / "keys.json"
    path.write_text(content or "")
    path = path if content is not None else path / "keys.json"
    failed = CliRunner().invoke(cli, ["keys", *arguments, "--file", str(path)]).exception
    assert isinstance(failed, CommandError), failed
    assert f"the file of keys {path} cannot be used: " in str(failed) and reason in str(failed)
