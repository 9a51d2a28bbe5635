// The cluster clients of ioredis and node-redis, and their plain ones, against three nodes, RESP2 and RESP3.
//
// Usage: node_cluster.mjs PORT PORT PORT

import { equal, library, ok, run } from "./checks.mjs";

const { Cluster, Redis } = library("ioredis");
const { createClient, createCluster } = library("redis");

const PORTS = process.argv.slice(2).map(Number);
const KEYS = Array.from({ length: 100 }, (_, n) => `k:${n}`);
const NODES = PORTS.map((port) => new Redis({ port }));

const redirect = (value) => Promise.all(NODES.map((node) => node.config("SET", "cluster-redirects", value)));

async function empty() {
  await redirect("no");
  await NODES[0].flushall();
}

/** How often the nodes have answered MOVED. */
async function moved() {
  const counts = NODES.map(async (node) => /errorstat_MOVED:count=(\d+)/.exec(await node.info("errorstats"))?.[1] ?? 0);
  return (await Promise.all(counts)).reduce((sum, count) => sum + Number(count), 0);
}

/** Every key is set and read once, all at the same time. */
async function write_and_read(cluster) {
  await Promise.all(KEYS.map((key, n) => cluster.set(key, `${n}`)));
  equal(await Promise.all(KEYS.map((key) => cluster.get(key))), KEYS.map((_, n) => `${n}`));
}

async function through_three_nodes(nodes) {
  for (let n = 0; n < 60; n++) {
    equal(await nodes[n % 3].set(KEYS[n], `${n}`), "OK");
    equal([await nodes[(n + 1) % 3].incr(KEYS[n]), await nodes[(n + 2) % 3].get(KEYS[n])], [n + 1, `${n + 1}`]);
  }
}

const IOREDIS = {
  async what_one_node_wrote_the_others_read(protocol) {
    const nodes = PORTS.map((port) => new Redis({ port, protocol }));
    await through_three_nodes(nodes);
    equal(await Promise.all(nodes.map((node) => node.dbsize())), [60, 60, 60]);
    nodes.forEach((node) => node.disconnect());
  },

  async the_cluster_client_knows_every_node(protocol) {
    await redirect("yes");
    const cluster = new Cluster([{ port: PORTS[0] }], { redisOptions: { protocol } });
    const before = await moved();
    await write_and_read(cluster);
    equal([await moved(), new Set(cluster.nodes().map((node) => node.options.port))], [before, new Set(PORTS)]);
    const masters = cluster.nodes("master");
    equal(masters.length + cluster.nodes("slave").length, 3);
    const sizes = await Promise.all(masters.map((node) => node.dbsize()));
    equal(sizes.reduce((sum, size) => sum + size), 100);
    equal(await cluster.pipeline().set("{t}a", 1).incr("{t}a").exec(), [[null, "OK"], [null, 2]]);
    equal(await cluster.multi().incr("{t}a").get("{t}a").exec(), [[null, 3], [null, "3"]]);
    equal(await cluster.del("{t}a", "{t}b"), 1);
    cluster.disconnect();
  },

  async it_follows_moved(protocol) {
    await redirect("yes");
    const cluster = new Cluster([{ port: PORTS[1] }], { redisOptions: { protocol }, slotsRefreshInterval: 0 });
    await cluster.set("foo", "bar");
    // A map of slots that is wrong everywhere: every first try goes to the wrong node.
    const names = PORTS.map((port) => `127.0.0.1:${port}`);
    cluster.slots = cluster.slots.map(([owner]) => [names[(names.indexOf(owner) + 1) % 3]]);
    const before = await moved();
    equal(await cluster.get("foo"), "bar");
    await write_and_read(cluster);
    ok((await moved()) > before);
    cluster.disconnect();
  },

  async replicas_answer_reads(protocol) {
    await redirect("yes");
    const cluster = new Cluster([{ port: PORTS[2] }], { scaleReads: "all", redisOptions: { protocol } });
    await cluster.set("foo", "bar");
    const before = await moved();
    for (let round = 0; round < 3; round++) {
      await write_and_read(cluster);
    }
    equal(await moved(), before);
    cluster.disconnect();
  },
};

const NODE_REDIS = {
  async what_one_node_wrote_the_others_read(protocol) {
    const nodes = await Promise.all(PORTS.map((port) => createClient({ RESP: protocol, socket: { port } }).connect()));
    await through_three_nodes(nodes);
    equal(await Promise.all(nodes.map((node) => node.dbSize())), [60, 60, 60]);
    nodes.forEach((node) => node.destroy());
  },

  async the_cluster_client_knows_every_node(protocol) {
    await redirect("yes");
    const cluster = await createCluster({ RESP: protocol, rootNodes: [{ socket: { port: PORTS[0] } }] }).connect();
    const before = await moved();
    await write_and_read(cluster);
    equal([await moved(), await cluster.mGet(["k:1", "no", "k:99"])], [before, ["1", null, "99"]]);
    equal(await cluster.multi().set("{t}a", "1").incr("{t}a").exec(), ["OK", 2]);
    cluster.destroy();
  },

  async replicas_answer_reads(protocol) {
    await redirect("yes");
    const options = { RESP: protocol, useReplicas: true, rootNodes: [{ socket: { port: PORTS[1] } }] };
    const cluster = await createCluster(options).connect();
    equal(cluster.masters.length + cluster.replicas.length, 3);
    const before = await moved();
    for (let round = 0; round < 3; round++) {
      await write_and_read(cluster);
    }
    equal(await moved(), before);
    cluster.destroy();
  },
};

for (const protocol of [2, 3]) {
  await run(`ioredis, RESP${protocol}, three nodes`, empty, IOREDIS, protocol);
  await run(`node-redis, RESP${protocol}, three nodes`, empty, NODE_REDIS, protocol);
}
await redirect("no");
NODES.forEach((node) => node.disconnect());
