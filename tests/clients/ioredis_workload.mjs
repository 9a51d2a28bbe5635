// ioredis's cluster client while leaders die and slots move: a mixed workload through which no error may surface.
//
// Usage: ioredis_workload.mjs PORT PORT PORT. It works until its input ends, and says how many commands it has done. The
// input is the number of processes that died. The library sends again what it lost the connection for, so for each of
// these an increment may happen twice; everything else happens once, and nothing not at all.

import { equal, library, ok } from "./checks.mjs";

const { Cluster } = library("ioredis");

const NODES = process.argv.slice(2).map((port) => ({ port: Number(port), host: "127.0.0.1" }));
const WORKERS = 4;
const SAID_EVERY = 200;

let over = false;
let done = 0;
let input = "";

function count(commands) {
  const before = done;
  done += commands;
  if (Math.floor(before / SAID_EVERY) !== Math.floor(done / SAID_EVERY)) {
    console.log(`done ${done}`);
  }
}

async function work(own, cluster) {
  let counted = 0;
  let round = 0;
  while (!over) {
    round++;
    const [key, value] = [`${own}:${round % 100}`, `${round}`];
    equal([await cluster.set(key, value), await cluster.get(key)], ["OK", value]);
    await cluster.incr(`n:${own}`);
    counted++;
    ok((await cluster.sadd(`all:${own}`, round)) <= 1);
    await cluster.hset(`h:${own}`, "f", value);
    equal(await cluster.hget(`h:${own}`, "f"), value);
    equal(await cluster.eval("return redis.call('get', KEYS[1])", 1, key), value);
    const results = await cluster.pipeline().set(`{p:${own}}a`, value).get(`{p:${own}}a`).exec();
    equal(results, [[null, "OK"], [null, value]]);
    const many = Array.from({ length: 10 }, (_, n) => `m:${own}:${n}`);
    await Promise.all(many.map((each) => cluster.set(each, value)));
    equal(await Promise.all(many.map((each) => cluster.get(each))), many.map(() => value));
    count(29);
  }
  const [found, deaths] = [Number(await cluster.get(`n:${own}`)), Number(input)];
  ok(counted <= found && found <= counted + deaths, `${counted} increments, ${deaths} deaths, ${found} counted`);
  const members = (await cluster.smembers(`all:${own}`)).map(Number).sort((a, b) => a - b);
  equal(members, Array.from({ length: round }, (_, n) => n + 1));
  for (let n = Math.max(1, round - 99); n <= round; n++) {
    equal(await cluster.get(`${own}:${n % 100}`), `${n}`);
  }
  console.log(`worker ${own}: ${counted} increments, ${found - counted} repeated`);
}

// Where many nodes die within moments the library has to ask for the slots more often, and to wait longer.
const PATIENCE = process.env.QUORIS_PATIENT ? { slotsRefreshInterval: 200, retryDelayOnFailover: 500 } : {};
const clusters = [2, 3].map((protocol) => new Cluster(NODES, { redisOptions: { protocol }, ...PATIENCE }));
const workers = Array.from({ length: WORKERS }, (_, own) => work(`js${own}`, clusters[own % 2]));
process.stdin.on("data", (text) => (input += text)).on("end", () => (over = true));
await Promise.all(workers);
console.log(`done ${done}`);
clusters.forEach((cluster) => cluster.disconnect());
