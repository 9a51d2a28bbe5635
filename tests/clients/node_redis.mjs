// node-redis against one node, RESP2 and RESP3. Usage: node_redis.mjs PORT

import { ALL_BYTES, LARGE, equal, library, ok, rejects, run, until } from "./checks.mjs";

const { ErrorReply, RESP_TYPES, SimpleError, WatchError, createClient, createClientPool } = library("redis");
const PORT = Number(process.argv[2]);

const says = (text) => (error) => error instanceof SimpleError && error.message.includes(text);
const binary = (connection) => connection.withTypeMapping({ [RESP_TYPES.BLOB_STRING]: Buffer });

const CHECKS = {
  async connects_and_says_who_it_is(connect, protocol) {
    const r = await connect({ name: "checks", database: 3 });
    const info = await r.clientInfo();
    equal([info.name, info.db, info.libName], ["checks", 3, "node-redis"]);
    ok((await r.sendCommand(["CLIENT", "INFO"])).includes(` resp=${protocol} `));
    equal([await r.ping(), await r.clientGetName(), await r.clientId()], ["PONG", "checks", info.id]);
  },

  async binary_keys_and_values(connect) {
    const r = await connect();
    equal(await r.set(ALL_BYTES, ALL_BYTES), "OK");
    equal(await binary(r).get(ALL_BYTES), ALL_BYTES);
    equal([await r.mSet({ ü: "ß", n: "41" }), await r.incr("n")], ["OK", 42]);
    equal(await r.mGet(["ü", "n", "no"]), ["ß", "42", null]);
    equal([await r.append("ü", "x"), await r.incrByFloat("n", 0.5), await r.getRange("n", 0, 1)], [3, "42.5", "42"]);
  },

  async large_values(connect) {
    const r = await connect();
    await r.set("large", LARGE);
    const found = await Promise.all([binary(r).get("large"), r.strLen("large"), binary(r).get("large")]);
    ok(found[0].equals(LARGE) && found[1] === LARGE.length && found[2].equals(LARGE));
  },

  async pipelines(connect) {
    const r = await connect();
    const waiting = [];
    for (let n = 0; n < 2000; n++) {
      waiting.push(r.set(`p:${n}`, `${n}`), r.get(`p:${n}`));
    }
    const found = await Promise.all(waiting);
    equal(found.filter((_, n) => n % 2).map(Number), Array.from({ length: 2000 }, (_, n) => n));
    equal(await r.multi().set("a", "1").incr("a").execAsPipeline(), ["OK", 2]);
  },

  async transactions(connect) {
    const r = await connect();
    equal(await r.multi().set("k", "1").incr("k").get("k").exec(), ["OK", 2, "2"]);
    const error = await r.multi().set("k", "x").incr("k").get("k").exec().catch((error) => error);
    ok(says("not an integer")(error.replies[1]) && error.replies[2] === "x", error);
    await rejects(r.multi().set("k", "never").addCommand(["GET"]).exec(), (error) => error instanceof ErrorReply);
    equal(await r.get("k"), "x");
  },

  async watch_sees_the_conflict(connect) {
    const [r, other] = [await connect(), await connect()];
    await r.watch("k");
    await other.set("k", "theirs");
    await rejects(r.multi().set("k", "mine").exec(), (error) => error instanceof WatchError);
    await r.watch("k");
    equal(await r.multi().set("k", "mine").exec(), ["OK"]);
  },

  async keys_expire(connect) {
    const r = await connect();
    equal(await r.set("soon", "v", { expiration: { type: "PX", value: 30 } }), "OK");
    equal(await r.set("later", "v", { expiration: { type: "EX", value: 100 } }), "OK");
    equal(await r.set("later", "w", { condition: "NX" }), null);
    equal(await r.set("later", "w", { expiration: "KEEPTTL", GET: true }), "v");
    const [ttl, pttl] = [await r.ttl("later"), await r.pTTL("later")];
    ok(ttl > 90 && ttl <= 100 && pttl > 90_000 && pttl <= 100_000, `${ttl} ${pttl}`);
    equal([await r.expire("later", 50, "GT"), await r.getEx("later", { persist: true })], [0, "w"]);
    equal(await r.ttl("later"), -1);
    await until("the key is gone", async () => (await r.get("soon")) === null);
  },

  async scans_see_every_key(connect) {
    const r = await connect();
    const names = Array.from({ length: 1000 }, (_, n) => `scan:${n}`);
    await r.mSet(Object.fromEntries([...names, "other"].map((name) => [name, "v"])));
    const seen = new Set();
    for await (const keys of r.scanIterator({ MATCH: "scan:*", COUNT: 100, TYPE: "string" })) {
      keys.forEach((key) => seen.add(key));
    }
    equal([seen.size, await r.dbSize(), await r.keys("o*")], [1000, 1001, ["other"]]);
    equal([await r.unlink(names), await r.dbSize()], [1000, 1]);
  },

  async dumps_are_restored(connect) {
    const r = await connect();
    await r.set("k", ALL_BYTES);
    const dump = await binary(r).dump("k");
    equal([await r.restore("copy", 5000, dump), await binary(r).get("copy")], ["OK", ALL_BYTES]);
    await rejects(r.restore("copy", 0, dump), says("BUSYKEY"));
  },

  async maps_and_types_of_the_protocol(connect, protocol) {
    const r = await connect();
    equal({ ...(await r.configGet("appendfs*")) }, { appendfsync: "always" });
    ok((await r.info("server")).includes("\r\nserver_name:quoris\r\n"));
    equal(await r.commandGetKeys(["MSET", "a", "1", "b", "2"]), ["a", "b"]);
    equal((await r.command()).length, await r.commandCount());
    await r.mSet({ a: "ohmytext", b: "mynewtext" });
    equal((await r.lcsIdx("a", "b")).len, 6);
    const ask = (kind) => r.sendCommand(["DEBUG", "PROTOCOL", kind]);
    const wanted = {
      double: ["3.141", 3.141],
      null: [null, null],
      array: [[0, 1, 2], [0, 1, 2]],
      set: [[0, 1, 2], [0, 1, 2]],
      map: [[0, 0, 1, 1, 2, 0], { 0: false, 1: true, 2: false }],
      bignum: ["1234567999999999999999999999999999999", 1234567999999999999999999999999999999n],
      true: [1, true],
      false: [0, false],
    };
    for (const [kind, both] of Object.entries(wanted)) {
      const found = await ask(kind);
      const plain = kind === "map" && protocol === 3 ? { ...found } : found;
      equal([kind, plain], [kind, both[protocol - 2]]);
    }
    ok((await ask("verbatim")).includes("This is a verbatim\nstring"));
  },

  async clients_are_killed_and_come_back(connect) {
    const [r, victim] = [await connect(), await connect({ name: "victim" })];
    const id = await victim.clientId();
    ok((await r.clientList()).some((client) => client.id === id && client.name === "victim"));
    equal(await r.clientKill({ filter: "ID", id }), 1);
    await until("the client is back", async () => (await victim.clientId().catch(() => id)) > id);
    equal([await victim.set("k", "v"), await victim.get("k"), await victim.clientGetName()], ["OK", "v", "victim"]);
  },

  async errors_have_their_texts(connect) {
    const r = await connect();
    await r.set("text", "x");
    await rejects(r.incr("text"), says("ERR value is not an integer or out of range"));
    await rejects(r.sendCommand(["NOSUCH", "a"]), says("ERR unknown command 'NOSUCH', with args beginning with: 'a'"));
    await rejects(r.rename("no", "k"), says("ERR no such key"));
    await r.configSet("requirepass", "secret");
    await rejects(connect({ password: "wrong", socket: { port: PORT, reconnectStrategy: false } }), says("WRONGPASS"));
    const admin = await connect({ username: "default", password: "secret" });
    equal([await admin.ping(), await admin.configSet("requirepass", "")], ["PONG", "OK"]);
  },

  async fifty_connections_at_once(connect, protocol) {
    const pool = createClientPool({ RESP: protocol, socket: { port: PORT } }, { minimum: 50, maximum: 50 });
    await pool.connect();
    await Promise.all(Array.from({ length: 2000 }, () => pool.incr("shared")));
    equal(await pool.get("shared"), "2000");
    await pool.close();
  },
};

for (const protocol of [2, 3]) {
  const opened = [];
  const connect = async (options) => {
    const connection = createClient({ RESP: protocol, socket: { port: PORT }, ...options });
    // Without a listener a cut connection would end the program.
    connection.on("error", () => {});
    opened.push(connection);
    return connection.connect();
  };
  const r = await connect();
  await run(`node-redis, RESP${protocol}`, () => r.flushAll(), CHECKS, connect, protocol);
  opened.filter((connection) => connection.isOpen).forEach((connection) => connection.destroy());
}
