"""redis-py's cluster client and its plain one against three nodes, RESP2 and RESP3.

Usage: redis_py_cluster.py PORT PORT PORT
"""

import asyncio
import sys

import redis
import redis.asyncio
from checks import check, equal, raises, run
from redis import exceptions as errors
from redis.asyncio.cluster import RedisCluster as AsyncCluster
from redis.cluster import LoadBalancingStrategy, RedisCluster

PORTS = [int(port) for port in sys.argv[1:]]
NODES = [redis.Redis(port=port) for port in PORTS]
MASTERS = RedisCluster.PRIMARIES
KEYS = {f"k:{n}".encode(): str(n).encode() for n in range(100)}


def redirect(value):
    for node in NODES:
        assert node.config_set("cluster-redirects", value)


def empty():
    redirect("no")
    assert NODES[0].flushall()


def moved():
    """How often the nodes have answered MOVED."""
    return sum(node.info("errorstats").get("errorstat_MOVED", {"count": 0})["count"] for node in NODES)


@check
def what_one_node_wrote_the_others_read(protocol):
    nodes = [redis.Redis(port=port, protocol=protocol) for port in PORTS]
    for n in range(60):
        assert nodes[n % 3].set(f"k:{n}", n)
        equal((nodes[(n + 1) % 3].incr(f"k:{n}"), nodes[(n + 2) % 3].get(f"k:{n}")), (n + 1, str(n + 1).encode()))
    names = {f"k:{n}".encode() for n in range(60)}
    for node in nodes:
        equal((node.dbsize(), set(node.scan_iter(count=7)), set(node.keys())), (60, names, names))
        with node.pipeline(transaction=False) as pipe:
            for n in range(60):
                pipe.get(f"k:{n}")
            equal(pipe.execute(), [str(n + 1).encode() for n in range(60)])
        equal((node.exists(*names), len(node.mget(names))), (60, 60))
    with nodes[0].pipeline() as pipe:
        pipe.watch("{t}a")
        nodes[1].set("{t}a", "theirs")
        pipe.multi()
        pipe.set("{t}b", "mine")
        raises(errors.WatchError, "Watched variable changed", pipe.execute)
        equal(pipe.get("{t}a").set("{t}b", 1).incr("{t}b").execute(), [b"theirs", True, 2])
    if len(nodes[0].cluster("SLOTS")) == 1:
        assert nodes[0].mset({"a": 1, "b": 2, "c": 3}) and nodes[1].delete("a", "b", "c") == 3
    else:
        raises(errors.ClusterCrossSlotError, "", lambda: nodes[0].mset({"a": 1, "b": 2, "c": 3}))
    equal((nodes[2].delete(*names), nodes[0].dbsize()), (60, 2))


@check
def the_cluster_client_knows_every_node(protocol):
    redirect("yes")
    rc = RedisCluster("localhost", PORTS[0], protocol=protocol)
    groups = len(rc.cluster_slots())
    equal({node.port for node in rc.get_nodes()}, set(PORTS))
    equal((len(rc.get_primaries()), len(rc.get_replicas())), (groups, 3 - groups))
    equal((len(rc.cluster_nodes()), len(rc.cluster_shards()), rc.cluster_keyslot("foo")), (3, groups, 12182))
    equal({int(rc.cluster_info(target_nodes=node)["cluster_size"]) for node in rc.get_nodes()}, {groups})
    for key, value in KEYS.items():
        assert rc.set(key, value, px=100_000)
        equal((rc.get(key), rc.incr(key)), (value, int(value) + 1))
    equal((rc.dbsize(target_nodes=MASTERS), set(rc.scan_iter(count=7))), (100, set(KEYS)))
    equal(set(rc.keys(target_nodes=MASTERS)), set(KEYS))
    equal((rc.mget_nonatomic(*KEYS)[:2], rc.exists(*KEYS), all(rc.mset_nonatomic(KEYS))), ([b"1", b"2"], 100, True))
    raises(errors.RedisClusterException, "", lambda: rc.mset(KEYS))
    with rc.pipeline() as pipe:
        for key in KEYS:
            pipe.get(key)
        equal(pipe.execute(), list(KEYS.values()))
    with rc.pipeline(transaction=True) as pipe:
        equal(pipe.incr("{t}a").incr("{t}b", 5).get("{t}a").execute(), [1, 5, b"1"])
    equal(rc.delete(*KEYS), 100)
    rc.close()


@check
def it_follows_moved(protocol):
    redirect("yes")
    rc = RedisCluster("localhost", PORTS[1], protocol=protocol)
    owner = rc.get_node_from_key("foo")
    for node in rc.get_nodes():
        if node != owner:
            error = raises(errors.MovedError, "", lambda: redis.Redis(port=node.port).get("foo"))
            equal((error.slot_id, error.port), (12182, owner.port))
    # A map of slots that is wrong everywhere: every first try goes to the wrong node.
    nodes = rc.get_nodes()
    for slot, right in rc.nodes_manager.slots_cache.items():
        rc.nodes_manager.slots_cache[slot] = [nodes[(nodes.index(right[0]) + 1) % 3]]
    before = moved()
    for key, value in KEYS.items():
        assert rc.set(key, value)
        equal(rc.get(key), value)
    assert moved() > before
    rc.close()


@check
def replicas_answer_reads(protocol):
    redirect("yes")
    everybody = LoadBalancingStrategy.ROUND_ROBIN
    rc = RedisCluster("localhost", PORTS[2], protocol=protocol, load_balancing_strategy=everybody)
    before = moved()
    for n in range(2):
        for key in KEYS:
            assert rc.set(key, n)
            equal((rc.get(key), rc.get(key), rc.get(key)), (str(n).encode(),) * 3)
    equal(moved(), before)
    rc.close()


@check
async def asyncio_does_the_same(protocol):
    redirect("yes")
    rc = await AsyncCluster("localhost", PORTS[0], protocol=protocol)
    await asyncio.gather(*(rc.set(key, value) for key, value in KEYS.items()))
    equal(await asyncio.gather(*(rc.get(key) for key in KEYS)), list(KEYS.values()))
    equal((await rc.dbsize(target_nodes=MASTERS), {key async for key in rc.scan_iter()}), (100, set(KEYS)))
    async with rc.pipeline() as pipe:
        for key in KEYS:
            pipe.incr(key)
        equal(await pipe.execute(), [int(value) + 1 for value in KEYS.values()])
    await rc.aclose()


for protocol in (2, 3):
    run(f"redis-py, RESP{protocol}, three nodes", empty, protocol)
redirect("no")
