"""redis-py's cluster client while leaders die: a mixed workload through which no error may surface.

Usage: redis_py_failover.py PORT PORT PORT. It works until its input ends, and says how many commands it has done.
The library sends again what it lost the connection for, so an increment may happen twice, and never not at all.
"""

import os
import sys
import threading
import traceback

from redis.cluster import ClusterNode, RedisCluster

PORTS = [int(port) for port in sys.argv[1:]]
THREADS = 4
SAID_EVERY = 200

over = threading.Event()
lock = threading.Lock()
done = 0


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
        client.hset(f"h:{own}", f"f:{round % 10}", round)
        assert client.hget(f"h:{own}", f"f:{round % 10}") == value
        assert client.eval("return redis.call('get', KEYS[1])", 1, key) == value
        assert client.mget(f"{{{own}}}a", f"{{{own}}}b") is not None
        commands = 7
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
    assert int(client.get(f"n:{own}")) >= counted


def guarded(own):
    try:
        client = RedisCluster(startup_nodes=[ClusterNode("127.0.0.1", port) for port in PORTS], protocol=2 + own % 2)
        work(own, client)
        client.close()
    except BaseException:
        traceback.print_exc()
        os._exit(1)


threads = [threading.Thread(target=guarded, args=(own,)) for own in range(THREADS)]
for thread in threads:
    thread.start()
sys.stdin.read()
over.set()
for thread in threads:
    thread.join()
print(f"done {done}", flush=True)
