"""redis-py's cluster client while leaders die and slots move: a mixed workload through which no error may surface.

Usage: redis_py_workload.py PORT PORT PORT. It works until its input ends, and says how many commands it has done. The
input is the number of processes that died. The library sends again what it lost the connection for, so for each of
these an increment may happen twice; everything else happens once, and nothing not at all.
"""

import os
import sys
import threading
import traceback

from redis.backoff import ExponentialWithJitterBackoff
from redis.cluster import ClusterNode, RedisCluster
from redis.retry import Retry

PORTS = [int(port) for port in sys.argv[1:]]
THREADS = 4
SAID_EVERY = 200
# Where many nodes die within moments the library has to try more often.
PATIENCE = {"retry": Retry(ExponentialWithJitterBackoff(2, 0.1), 20)} if "QUORIS_PATIENT" in os.environ else {}

over = threading.Event()
lock = threading.Lock()
done = 0
deaths = 0


def count(commands):
    global done
    with lock:
        before, done = done, done + commands
        if before // SAID_EVERY != done // SAID_EVERY:
            print(f"done {done}", flush=True)


def work(own, client):
    round, counted = 0, 0
    while not over.is_set():
        round += 1
        key, value = f"{own}:{round % 100}", str(round).encode()
        assert client.set(key, value) and client.get(key) == value
        client.incr(f"n:{own}")
        counted += 1
        assert client.sadd(f"all:{own}", round) in (0, 1)
        client.hset(f"h:{own}", f"f:{round % 10}", round)
        assert client.hget(f"h:{own}", f"f:{round % 10}") == value
        assert client.eval("return redis.call('get', KEYS[1])", 1, key) == value
        assert client.mget(f"{{{own}}}a", f"{{{own}}}b") is not None
        commands = 8
        if round % 10 == 0:
            keys = [f"p:{own}:{n}" for n in range(10)]
            assert client.mset_nonatomic(dict.fromkeys(keys, value))
            assert client.mget_nonatomic(keys) == [value] * 10
            with client.pipeline() as pipe:
                for each in keys:
                    pipe.get(each)
                assert pipe.execute() == [value] * 10
            commands += 30
        count(commands)
    found = int(client.get(f"n:{own}"))
    assert counted <= found <= counted + deaths, f"{counted} increments, {deaths} deaths, {found} counted"
    assert client.smembers(f"all:{own}") == {str(n).encode() for n in range(1, round + 1)}
    for n in range(max(1, round - 99), round + 1):
        assert client.get(f"{own}:{n % 100}") == str(n).encode(), n
    print(f"worker {own}: {counted} increments, {found - counted} repeated", flush=True)


def guarded(own):
    try:
        nodes = [ClusterNode("127.0.0.1", port) for port in PORTS]
        client = RedisCluster(startup_nodes=nodes, protocol=2 + own % 2, **PATIENCE)
        work(f"py{own}", client)
        client.close()
    except BaseException:
        traceback.print_exc()
        os._exit(1)


threads = [threading.Thread(target=guarded, args=(own,)) for own in range(THREADS)]
for thread in threads:
    thread.start()
deaths = int(sys.stdin.read() or 0)
over.set()
for thread in threads:
    thread.join()
print(f"done {done}", flush=True)
