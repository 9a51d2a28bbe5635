"""redis-py against one node, blocking and asyncio, RESP2 and RESP3. Usage: redis_py.py PORT"""

import asyncio
import sys
import threading
import time

import redis
import redis.asyncio
from checks import check, equal, raises, run, until
from events import follow, mirror, start_over
from exactly_once import Session
from redis import exceptions as errors
from redis.backoff import NoBackoff
from redis.retry import Retry

PORT = int(sys.argv[1])
# It has no keys and no replicas of its own, and no memory for them.
PROXY = sys.argv[2:] == ["proxy"]
ALL_BYTES = bytes(range(256))
LARGE = ALL_BYTES * (5 * 1024 * 1024 // 256)


def text(reply):
    """Some replies are text or bytes, depending on the version of the protocol."""
    return reply.decode() if isinstance(reply, bytes) else reply


@check
def connects_and_says_who_it_is(connect, protocol):
    r = connect(client_name="checks", db=3)
    info = r.client_info()
    seen = {name: info[name] for name in ("resp", "name", "db", "lib-name", "lib-ver")}
    wanted = {"resp": protocol, "name": "checks", "db": 3, "lib-name": "redis-py", "lib-ver": redis.__version__}
    equal({name: str(value) for name, value in seen.items()}, {name: str(value) for name, value in wanted.items()})
    equal((text(r.client_getname()), r.client_id()), ("checks", int(info["id"])))
    assert r.ping() and r.echo("x") == b"x"


@check
def binary_keys_and_values(connect, protocol):
    r = connect()
    assert r.set(ALL_BYTES, ALL_BYTES + b"\r\n") is True
    equal(r.get(ALL_BYTES), ALL_BYTES + b"\r\n")
    equal(r.mget(ALL_BYTES, "absent", "ü"), [ALL_BYTES + b"\r\n", None, None])
    equal((r.append("ü", "ß"), r.strlen("ü"), r.getrange("ü", 0, -1)), (2, 2, "ß".encode()))
    plain = connect(decode_responses=True)
    equal((plain.get("ü"), plain.mset({"a": 1, "b": "zwei"}), plain.mget("a", "b")), ("ß", True, ["1", "zwei"]))
    equal((r.incr("a"), r.incrbyfloat("a", 0.5), r.decr("n", 3), r.get("a")), (2, 2.5, -3, b"2.5"))


@check
def large_values(connect, protocol):
    r = connect()
    assert r.set("large", LARGE)
    assert r.get("large") == LARGE
    with r.pipeline(transaction=False) as pipe:
        found = pipe.get("large").strlen("large").getrange("large", -3, -1).get("large").execute()
    assert found == [LARGE, len(LARGE), LARGE[-3:], LARGE]


@check
def pipelines(connect, protocol):
    r = connect()
    with r.pipeline(transaction=False) as pipe:
        for n in range(2000):
            pipe.set(f"p:{n}", n).get(f"p:{n}").incr("sum", n)
        found = pipe.execute()
    equal(found[::3], [True] * 2000)
    equal(found[1::3], [str(n).encode() for n in range(2000)])
    equal(found[-1], sum(range(2000)))
    with r.pipeline(transaction=False) as pipe:
        found = pipe.set("text", "x").incr("text").get("text").execute(raise_on_error=False)
    assert found[0] is True and type(found[1]) is errors.ResponseError and found[2] == b"x", found


@check
def transactions(connect, protocol):
    r = connect()
    with r.pipeline() as pipe:
        equal(pipe.set("k", "1").incr("k").get("k").mget("k", "no").execute(), [True, 2, b"2", [b"2", None]])
        found = pipe.set("k", "x").incr("k").get("k").execute(raise_on_error=False)
        assert type(found[1]) is errors.ResponseError and found[2] == b"x", found
        pipe.set("k", "never").execute_command("GET")
        raises(errors.ResponseError, "wrong number of arguments", pipe.execute)
    equal(r.get("k"), b"x")


@check
def a_session_of_its_own_runs_nothing_twice(connect, protocol):
    nobody = redis.Redis(port=1, retry=Retry(NoBackoff(), 0))
    session = Session([connect(), nobody, connect()])
    equal(session.run(["INCR", "own"], ["SET", "t", "x"], ["INCR", "t"], ["INCR", "own"])[::3], [1, 2])
    for _ in range(5):
        # As if no reply had come.
        session.number, session.nodes = 1, session.nodes[1:] + session.nodes[:1]
        replies = session.run(["INCR", "own"], ["SET", "t", "x"], ["INCR", "t"], ["INCR", "own"])
        equal((replies[0], replies[3], type(replies[2])), (1, 2, errors.ResponseError))
    equal(session.run(["MULTI"], ["INCR", "own"], ["EXEC"])[2], [3])
    equal(connect().get("own"), b"3")


@check
def watch_sees_the_conflict(connect, protocol):
    r, other = connect(), connect()
    with r.pipeline() as pipe:
        pipe.watch("k")
        other.set("k", "theirs")
        pipe.multi()
        pipe.set("k", "mine")
        raises(errors.WatchError, "Watched variable changed", pipe.execute)
        pipe.watch("k")
        pipe.unwatch()
        other.set("k", "5")
        pipe.multi()
        equal(pipe.get("k").execute(), [b"5"])
    tries = []

    def double(pipe):
        value = int(pipe.get("k"))
        if not tries:
            other.incr("k")
        tries.append(value)
        pipe.multi()
        pipe.set("k", value * 2)

    equal((r.transaction(double, "k"), tries, r.get("k")), ([True], [5, 6], b"12"))


@check
def keys_expire(connect, protocol):
    r = connect()
    assert r.set("soon", "v", px=30) and r.set("later", "v", ex=100, nx=True)
    equal((r.set("later", "w", nx=True), r.set("absent", "w", xx=True)), (None, None))
    equal((r.set("later", "w", keepttl=True, get=True), r.get("later")), (b"v", b"w"))
    assert 90 < r.ttl("later") <= 100 and 90_000 < r.pttl("later") <= 100_000
    assert 0 < r.expiretime("later") - time.time() < 101
    equal((r.expire("later", 50, gt=True), r.expire("later", 50, lt=True), r.expire("no", 50)), (False, True, False))
    equal((r.getex("later", persist=True), r.ttl("later"), r.persist("later")), (b"w", -1, False))
    equal((r.pexpireat("later", int(time.time() * 1000) - 1), r.exists("later"), r.ttl("later")), (True, 0, -2))
    until("the key is gone", lambda: r.get("soon") is None)
    equal(r.set("s", "v") and r.getdel("s"), b"v")


@check
def scans_see_every_key(connect, protocol):
    r = connect()
    names = {f"scan:{n}".encode() for n in range(1000)}
    assert r.mset(dict.fromkeys(names, "v"))
    r.mset({"other": 1, "more": 2})
    equal(set(r.scan_iter(match="scan:*", count=100)), names)
    equal((set(r.scan_iter(_type="string")), r.dbsize()), (names | {b"other", b"more"}, 1002))
    equal((set(r.scan_iter(_type="list")), sorted(r.keys("[mo]*"))), (set(), [b"more", b"other"]))
    assert r.randomkey() in names | {b"other", b"more"}
    equal((r.unlink(*names), r.delete("more", "no"), r.rename("other", "k"), r.keys()), (1000, 1, True, [b"k"]))


@check
def dumps_are_restored(connect, protocol):
    r = connect()
    r.set("k", ALL_BYTES)
    dump = r.dump("k")
    raises(errors.ResponseError, "BUSYKEY", lambda: r.restore("k", 0, dump))
    raises(errors.ResponseError, "DUMP payload version or checksum are wrong", lambda: r.restore("x", 0, dump[:-1]))
    equal((r.restore("copy", 5000, dump), r.restore("k", 0, dump, replace=True)), (b"OK", b"OK"))
    assert r.get("copy") == ALL_BYTES and 0 < r.pttl("copy") <= 5000 and r.dump("no") is None
    equal((r.copy("k", "twin"), r.get("twin")), (True, ALL_BYTES))
    equal((r.type("twin"), r.object("encoding", "twin")), (b"string", b"raw"))


@check
def info_and_config_are_parsed(connect, protocol):
    r = connect()
    r.set("k", "v", ex=100)
    info = r.info()
    assert info["redis_mode"] == "standalone" and info["role"] == "master" and info["loading"] == 0, info
    assert info["tcp_port"] == PORT and info["connected_clients"] > 0 and info["used_memory"] > 0
    if not PROXY:
        equal((info["db0"]["keys"], info["db0"]["expires"]), (1, 1))
        equal((set(r.info("keyspace")), r.info("raft")["group1"]["role"]), ({"db0"}, "leader"))
    assert info["redis_version"].count(".") == 2 and info["server_name"] == "quoris"
    everything = r.info("everything")
    assert everything["cmdstat_set"]["calls"] > 0 and everything["group1"]["slots"] == "0-16383", everything
    equal(r.config_get("maxmemory", "appendfs*"), {"maxmemory": "0", "appendfsync": "always"})
    equal((r.config_set("timeout", 100), r.config_get("timeout")), (True, {"timeout": "100"}))
    assert r.config_set("timeout", 0)
    raises(errors.ResponseError, "Unknown option", lambda: r.config_set("no-such", 1))
    assert r.config_resetstat() and r.slowlog_get() == r.slowlog_get(10) and r.slowlog_reset()
    seconds, micros = r.time()
    assert abs(seconds - time.time()) < 60 and 0 <= micros < 1_000_000
    assert r.memory_usage("k") > 0 and r.lastsave() and r.role()[0] in (b"master", "master")


@check
def the_table_of_commands_is_parsed(connect, protocol):
    r = connect()
    table = r.command()
    equal((table["get"]["arity"], table["set"]["first_key_pos"], len(table)), (2, 1, r.command_count()))
    assert "readonly" in table["get"]["flags"]
    equal([text(key) for key in r.command_getkeys("MSET", "a", 1, "b", 2)], ["a", "b"])
    ((key, flags),) = r.command_getkeysandflags("GET", "a")
    equal((key, set(flags)), (b"a", {b"RO", b"access"}))
    assert b"get" in r.command_list(category="string")


@check
def clients_are_listed_and_killed(connect, protocol):
    r, victim = connect(client_name="killer"), connect(client_name="victim", single_connection_client=True)
    number = victim.client_id()
    listed = {int(client["id"]): client for client in r.client_list()}
    seen = listed[number]
    equal((seen["name"], int(seen["resp"]), seen["lib-name"]), ("victim", protocol, "redis-py"))
    equal([client["name"] for client in r.client_list(client_id=[number])], ["victim"])
    equal(r.client_kill_filter(_id=number), 1)
    # The library opens a new connection and asks again.
    equal((victim.get("k"), text(victim.client_getname())), (None, "victim"))
    second = victim.client_id()
    assert second > number
    address = next(client["addr"] for client in r.client_list() if int(client["id"]) == second)
    assert r.client_kill(address) is True
    assert victim.set("k", "v") and victim.get("k") == b"v" and victim.client_id() > second
    raises(errors.ResponseError, "No such client", lambda: r.client_kill("127.0.0.1:1"))
    equal((r.client_pause(20, all=False), r.set("k", "w"), r.client_unpause()), (True, True, b"OK"))


@check
def errors_have_their_classes(connect, protocol):
    r = connect()
    r.set("text", "x")
    raises(errors.ResponseError, "value is not an integer or out of range", lambda: r.incr("text"))
    unknown = "unknown command 'NOSUCH', with args beginning with: 'a'"
    raises(errors.ResponseError, unknown, lambda: r.execute_command("NOSUCH", "a"))
    raises(errors.ResponseError, "wrong number of arguments for 'get' command", lambda: r.execute_command("GET"))
    raises(errors.ResponseError, "no such key", lambda: r.rename("no", "k"))
    raises(errors.ResponseError, "DB index is out of range", lambda: connect(db=99).ping())
    raises(errors.ResponseError, "WRONGTYPE made up", lambda: r.execute_command("DEBUG", "ERROR", "WRONGTYPE made up"))
    raises(errors.ReadOnlyError, "made up", lambda: r.execute_command("DEBUG", "ERROR", "READONLY made up"))
    if not PROXY:
        r.config_set("maxmemory", 1)
        raises(errors.OutOfMemoryError, "used memory > 'maxmemory'", lambda: r.set("k", "v"))
        r.config_set("maxmemory", 0)
    r.config_set("requirepass", "secret")
    # To the library a refused password is a connection error, which it would try again for seconds.
    once = Retry(NoBackoff(), 0)
    raises(errors.AuthenticationError, "uthenticat", lambda: connect(retry=once).ping())
    raises(errors.AuthenticationError, "invalid username-password", lambda: connect(retry=once, password="no").ping())
    admin = connect(username="default", password="secret")
    assert admin.ping() and admin.acl_whoami() and admin.config_set("requirepass", "")


@check
def every_type_of_the_protocol_is_decoded(connect, protocol):
    r = connect()

    def ask(kind):
        return r.execute_command("DEBUG", "PROTOCOL", kind)

    wanted = {
        "string": (b"Hello World", b"Hello World"),
        "integer": (12345, 12345),
        "double": (b"3.141", 3.141),
        "null": (None, None),
        "array": ([0, 1, 2], [0, 1, 2]),
        "set": ([0, 1, 2], [0, 1, 2]),
        "map": ([0, 0, 1, 1, 2, 0], {0: False, 1: True, 2: False}),
        "bignum": (b"1234567999999999999999999999999999999", 1234567999999999999999999999999999999),
        "true": (1, True),
        "false": (0, False),
    }
    for kind, both in wanted.items():
        found = ask(kind)
        found = sorted(found) if kind == "set" else found
        equal((kind, found, type(found)), (kind, both[protocol - 2], type(both[protocol - 2])))
    assert b"This is a verbatim\nstring" in ask("verbatim")
    r.mset({"a": "ohmytext", "b": "mynewtext"})
    equal((r.lcs("a", "b"), r.lcs("a", "b", len=True)), (b"mytext", 6))
    matches = r.lcs("a", "b", idx=True, withmatchlen=True)
    assert 6 in (matches.values() if isinstance(matches, dict) else matches), matches


@check
def fifty_connections_at_once(connect, protocol):
    r = connect(max_connections=50)
    start = threading.Barrier(50)
    failed = []

    def work(worker):
        try:
            own = r.client()
            start.wait()
            for n in range(40):
                own.incr("shared")
                own.set(f"own:{worker}", n)
                equal(own.get(f"own:{worker}"), str(n).encode())
            own.close()
        except Exception as error:
            failed.append(error)

    threads = [threading.Thread(target=work, args=(worker,)) for worker in range(50)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    equal((failed, r.get("shared"), r.dbsize()), ([], b"2000", 51))


@check
def events_are_read_from_a_position(connect, protocol):
    r = connect(decode_responses=True)
    r.config_set("notify-keyspace-events", "KEA")
    cursor, got = start_over(r, "quoris:events:keys:e:*", list), []
    r.set("e:1", "v")
    r.pipeline().lpush("e:2", "a").delete("e:1").set("other", "v").execute()
    seen = []

    def handle(cursor, fields):
        got.append((fields["event"], fields["key"]))
        seen.append(cursor)
        return len(got) < 3

    mirror(r, "quoris:events:keys:e:*", cursor, list, handle)
    equal(got, [("set", "e:1"), ("lpush", "e:2"), ("del", "e:1")])
    follow(connect(decode_responses=True), "quoris:events:keys:e:*", seen[0], lambda c, f: got.append(c) or c != seen[2])
    equal(got[3:], seen[1:])
    equal(r.xrange("quoris:events:keys:e:*", seen[1], "+", count=1)[0][0], seen[1])
    r.publish("e", "before")
    cursor = r.xinfo_stream("quoris:events:channel:e")["last-generated-id"]
    r.publish("e", "behind")
    listener = r.pubsub()
    name = f"quoris:events:from:{cursor}:channel:e"
    listener.psubscribe(name)
    messages = []
    until("a message", lambda: messages.append(listener.get_message(timeout=0.1)) or len(list(filter(None, messages))) == 2)
    message = list(filter(None, messages))[1]
    equal((message["type"], message["pattern"], message["data"]), ("pmessage", name, "behind"))
    assert message["channel"].endswith(" e"), message
    listener.close()
    r.config_set("notify-keyspace-events", "")


@check
def messages_reach_who_listens(connect, protocol):
    r = connect(decode_responses=True)
    listener = r.pubsub()

    def take(count):
        got = []

        def more():
            message = listener.get_message(timeout=0.1)
            if message:
                got.append((message["type"], message["pattern"], message["channel"], message["data"]))
            return len(got) >= count

        until("messages", more)
        return got

    listener.subscribe("news", "more")
    listener.psubscribe("n*")
    equal(take(3), [("subscribe", None, "news", 1), ("subscribe", None, "more", 2), ("psubscribe", None, "n*", 3)])
    equal([r.publish("news", "a"), r.publish("none", "b"), r.publish("other", "c")], [2, 1, 0])
    pattern = [("pmessage", "n*", "news", "a"), ("pmessage", "n*", "none", "b")]
    equal(take(3), [("message", None, "news", "a"), *pattern])
    equal((r.pubsub_channels("n*"), r.pubsub_numsub("news"), r.pubsub_numpat()), (["news"], [("news", 1)], 1))
    equal(r.pipeline().set("k", "v").publish("more", "d").execute(), [True, 1])
    equal(take(1), [("message", None, "more", "d")])
    listener.unsubscribe()
    listener.punsubscribe()
    left = {kind for kind, *_ in take(3)}
    equal((left, r.publish("news", "e")), ({"unsubscribe", "punsubscribe"}, 0))
    r.config_set("notify-keyspace-events", "Kx$")
    listener.subscribe("__keyspace@0__:timed")
    equal([data for *_, data in take(1)], [1])
    r.set("timed", "v", px=20)
    equal([data for *_, data in take(2)], ["set", "expired"])
    r.config_set("notify-keyspace-events", "")
    listener.close()


@check
async def asyncio_does_the_same(connect, protocol):
    r = redis.asyncio.Redis(port=PORT, protocol=protocol, client_name="async")
    info = await r.client_info()
    equal((int(info["resp"]), info["name"], info["lib-name"].startswith("redis-py")), (protocol, "async", True))
    assert await r.set(ALL_BYTES, LARGE) and await r.get(ALL_BYTES) == LARGE
    async with r.pipeline(transaction=True) as pipe:
        equal(await pipe.set("k", 1).incr("k").get("k").execute(), [True, 2, b"2"])
        await pipe.watch("k")
        await r.set("k", "theirs")
        pipe.multi()
        pipe.set("k", "mine")
        try:
            await pipe.execute()
            raise AssertionError("no conflict")
        except errors.WatchError:
            pass
    clients = [redis.asyncio.Redis(port=PORT, protocol=protocol) for _ in range(50)]

    async def work(own):
        for _ in range(40):
            await own.incr("shared")
        await own.aclose()

    await asyncio.gather(*(work(own) for own in clients))
    equal(await r.get("shared"), b"2000")
    await r.delete(ALL_BYTES)
    equal({key async for key in r.scan_iter()}, {b"k", b"shared"})
    number = await r.client_id()
    connect().client_kill_filter(_id=number)
    assert await r.get("k") == b"theirs" and await r.client_id() > number
    await r.aclose()


def main():
    for protocol in (2, 3):
        opened = []

        def connect(**options):
            opened.append(redis.Redis(port=PORT, protocol=protocol, **options))
            return opened[-1]

        empty = connect().flushall
        run(f"redis-py, RESP{protocol}", empty, connect, protocol)
        for client in opened:
            client.close()


main()
