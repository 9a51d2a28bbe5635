// ioredis's cluster client while leaders die: a mixed workload through which no error may surface.
//
// Usage: ioredis_failover.mjs PORT PORT PORT. It works until its input ends, and says how many commands it has done.
// The library sends again what it lost the connection for, so an increment may happen twice, and never not at all.

import { equal, library, ok } from "./checks.mjs";

const { Cluster } = library("ioredis");

const NODES = process.argv.slice(2).map((port) => ({ port: Number(port), host: "127.0.0.1" }));
const WORKERS = 4;
const SAID_EVERY = 200;

let over = false;
let done = 0;

function count(commands) {
  const before = done;
  done += commands;
  if (Math.floor(before / SAID_EVERY) !== Math.floor(done / SAID_EVERY)) {
    console.log(`done ${done}`);
  }
}

async function work(own, cluster) {
  let counted = 0;
  for (let round = 1; !over; round++) {
    const [key, value] = [`${own}:${round % 100}`, `${round}`];
    equal([await cluster.set(key, value), await cluster.get(key)], ["OK", value]);
    await cluster.incr(`n:${own}`);
    counted++;
    await cluster.hset(`h:${own}`, "f", value);
    equal(await cluster.hget(`h:${own}`, "f"), value);
    equal(await cluster.eval("return redis.call('get', KEYS[1])", 1, key), value);
    const results = await cluster.pipeline().set(`{p:${own}}a`, value).get(`{p:${own}}a`).exec();
    equal(results, [[null, "OK"], [null, value]]);
    const many = Array.from({ length: 10 }, (_, n) => `m:${own}:${n}`);
    await Promise.all(many.map((each) => cluster.set(each, value)));
    equal(await Promise.all(many.map((each) => cluster.get(each))), many.map(() => value));
    count(28);
  }
  ok(Number(await cluster.get(`n:${own}`)) >= counted);
}

const clusters = [2, 3].map((protocol) => new Cluster(NODES, { redisOptions: { protocol } }));
const workers = Array.from({ length: WORKERS }, (_, own) => work(own, clusters[own % 2]));
process.stdin.on("end", () => (over = true)).resume();
await Promise.all(workers);
console.log(`done ${done}`);
clusters.forEach((cluster) => cluster.disconnect());
