// ioredis against one node, RESP2 and RESP3. Usage: ioredis.mjs PORT

import { ALL_BYTES, LARGE, equal, library, ok, rejects, run, until } from "./checks.mjs";
import { follow } from "./events.mjs";

const { Redis, ReplyError } = library("ioredis");
const { version } = library("ioredis/package.json");
const PORT = Number(process.argv[2]);

const says = (text) => (error) => error instanceof ReplyError && error.message.includes(text);

const CHECKS = {
  async connects_and_says_who_it_is(connect, protocol) {
    const r = connect({ connectionName: "checks", db: 3 });
    const info = await r.client("INFO");
    for (const part of [`resp=${protocol} `, "name=checks ", "db=3 ", "lib-name=ioredis", `lib-ver=${version}`]) {
      ok(info.includes(part), `${part} in ${info}`);
    }
    equal([await r.ping(), await r.client("GETNAME"), typeof (await r.client("ID"))], ["PONG", "checks", "number"]);
  },

  async binary_keys_and_values(connect) {
    const r = connect();
    equal(await r.set(ALL_BYTES, ALL_BYTES), "OK");
    equal(await r.getBuffer(ALL_BYTES), ALL_BYTES);
    equal(await r.mgetBuffer(ALL_BYTES, "absent"), [ALL_BYTES, null]);
    equal([await r.mset({ ü: "ß", n: 41 }), await r.incr("n"), await r.mget("ü", "n")], ["OK", 42, ["ß", "42"]]);
    equal([await r.append("ü", "x"), await r.incrbyfloat("n", 0.5)], [3, "42.5"]);
  },

  async large_values(connect) {
    const r = connect();
    await r.set("large", LARGE);
    const found = await Promise.all([r.getBuffer("large"), r.strlen("large"), r.getBuffer("large")]);
    ok(found[0].equals(LARGE) && found[1] === LARGE.length && found[2].equals(LARGE));
  },

  async pipelines(connect) {
    const r = connect();
    const pipe = r.pipeline();
    for (let n = 0; n < 2000; n++) {
      pipe.set(`p:${n}`, n).get(`p:${n}`);
    }
    const found = (await pipe.exec()).filter((_, n) => n % 2);
    equal(found, Array.from({ length: 2000 }, (_, n) => [null, `${n}`]));
    const mixed = await r.pipeline().set("text", "x").incr("text").get("text").exec();
    ok(says("not an integer")(mixed[1][0]) && mixed[2][1] === "x");
    const auto = connect({ enableAutoPipelining: true });
    equal(await Promise.all([auto.incr("a"), auto.incr("a"), auto.get("a")]), [1, 2, "2"]);
  },

  async transactions(connect) {
    const r = connect();
    equal(await r.multi().set("k", "1").incr("k").get("k").exec(), [[null, "OK"], [null, 2], [null, "2"]]);
    const found = await r.multi().set("k", "x").incr("k").get("k").exec();
    ok(says("not an integer")(found[1][0]) && found[2][1] === "x");
    await rejects(r.multi().set("k", "never").call("GET").exec(), says("EXECABORT"));
    equal(await r.get("k"), "x");
  },

  async watch_sees_the_conflict(connect) {
    const [r, other] = [connect(), connect()];
    await r.watch("k");
    await other.set("k", "theirs");
    equal(await r.multi().set("k", "mine").exec(), null);
    await r.watch("k");
    equal(await r.multi().set("k", "mine").exec(), [[null, "OK"]]);
  },

  async keys_expire(connect) {
    const r = connect();
    equal([await r.set("soon", "v", "PX", 30), await r.set("later", "v", "EX", 100, "NX")], ["OK", "OK"]);
    equal([await r.set("later", "w", "NX"), await r.set("later", "w", "KEEPTTL", "GET")], [null, "v"]);
    const [ttl, pttl] = [await r.ttl("later"), await r.pttl("later")];
    ok(ttl > 90 && ttl <= 100 && pttl > 90_000 && pttl <= 100_000, `${ttl} ${pttl}`);
    equal([await r.expire("later", 50, "GT"), await r.getex("later", "PERSIST"), await r.ttl("later")], [0, "w", -1]);
    await until("the key is gone", async () => (await r.get("soon")) === null);
  },

  async scans_see_every_key(connect) {
    const r = connect();
    const names = Array.from({ length: 1000 }, (_, n) => `scan:${n}`);
    await r.mset(Object.fromEntries([...names, "other"].map((name) => [name, "v"])));
    const seen = new Set();
    for await (const keys of r.scanStream({ match: "scan:*", count: 100, type: "string" })) {
      keys.forEach((key) => seen.add(key));
    }
    equal([seen.size, await r.dbsize(), await r.keys("o*")], [1000, 1001, ["other"]]);
    equal([await r.unlink(names), await r.dbsize()], [1000, 1]);
  },

  async dumps_are_restored(connect) {
    const r = connect();
    await r.set("k", ALL_BYTES);
    const dump = await r.dumpBuffer("k");
    equal([await r.restore("copy", 5000, dump), await r.getBuffer("copy")], ["OK", ALL_BYTES]);
    await rejects(r.restore("copy", 0, dump), says("BUSYKEY"));
  },

  async maps_and_types_of_the_protocol(connect, protocol) {
    const r = connect();
    equal(await r.config("GET", "appendfs*"), ["appendfsync", "always"]);
    ok((await r.info("server")).includes("\r\nserver_name:quoris\r\n"));
    equal((await r.call("COMMAND", "GETKEYS", "MSET", "a", 1, "b", 2)), ["a", "b"]);
    ok((await r.command("COUNT")) > 80 && (await r.command("DOCS", "get")).length === 2);
    await r.mset({ a: "ohmytext", b: "mynewtext" });
    equal((await r.call("LCS", "a", "b", "IDX")).slice(2), ["len", 6]);
    const ask = (connection, kind) => connection.call("DEBUG", "PROTOCOL", kind);
    equal([await ask(r, "double"), await ask(r, "null"), await ask(r, "set")], ["3.141", null, [0, 1, 2]]);
    ok((await ask(r, "verbatim")).includes("This is a verbatim\nstring"));
    if (protocol === 3) {
      const typed = connect({ replyMapping: "resp3" });
      equal([await ask(typed, "double"), await typed.config("GET", "appendfs*")], [3.141, { appendfsync: "always" }]);
      equal(Boolean(await ask(typed, "true")) && !(await ask(typed, "false")), true);
    }
  },

  async clients_are_killed_and_come_back(connect) {
    const [r, victim] = [connect(), connect({ connectionName: "victim" })];
    const id = await victim.client("ID");
    const listed = (await r.client("LIST")).split("\n").find((line) => line.startsWith(`id=${id} `));
    ok(listed.includes("name=victim "), listed);
    equal(await r.client("KILL", "ID", id), 1);
    await until("the client is back", async () => (await victim.client("ID").catch(() => id)) > id);
    equal([await victim.set("k", "v"), await victim.get("k"), await victim.client("GETNAME")], ["OK", "v", "victim"]);
    await rejects(r.client("KILL", "127.0.0.1:1"), says("No such client"));
  },

  async errors_have_their_texts(connect) {
    const r = connect();
    await r.set("text", "x");
    await rejects(r.incr("text"), says("ERR value is not an integer or out of range"));
    await rejects(r.call("NOSUCH", "a"), says("ERR unknown command 'NOSUCH', with args beginning with: 'a'"));
    await rejects(r.rename("no", "k"), says("ERR no such key"));
    await rejects(r.config("SET", "no-such", 1), says("ERR Unknown option"));
    await r.config("SET", "requirepass", "secret");
    const stranger = connect({ retryStrategy: null, enableReadyCheck: false });
    stranger.on("error", () => {});
    await rejects(stranger.get("k"), says("NOAUTH"));
    const admin = connect({ username: "default", password: "secret" });
    equal([await admin.ping(), await admin.config("SET", "requirepass", "")], ["PONG", "OK"]);
  },

  async events_are_read_from_a_position(connect) {
    const [r, reader] = [connect(), connect()];
    await r.publish("e", "before");
    const about = await r.xinfo("STREAM", "quoris:events:channel:e");
    const start = about[about.indexOf("last-generated-id") + 1];
    const got = [];
    const ended = follow(reader, "quoris:events:channel:e", start, (id, { channel, message }) => {
      got.push([channel, message]);
      return got.length < 3;
    });
    for (const text of ["a", "b", "c", "d"]) {
      await r.publish("e", text);
    }
    const cursor = await ended;
    equal(got, [["e", "a"], ["e", "b"], ["e", "c"]]);
    await follow(r, "quoris:events:channel:e", cursor, (_, { message }) => got.push(message) && false);
    equal(got[3], "d");
  },

  async messages_reach_who_listens(connect) {
    const [r, listener] = [connect(), connect()];
    const got = [];
    listener.on("message", (...message) => got.push(message));
    listener.on("pmessage", (...message) => got.push(message));
    equal([await listener.subscribe("news", "more"), await listener.psubscribe("n*")], [2, 3]);
    equal([await r.publish("news", "a"), await r.publish("none", "b"), await r.publish("other", "c")], [2, 1, 0]);
    await until("messages", () => got.length >= 3);
    equal(got, [["news", "a"], ["n*", "news", "a"], ["n*", "none", "b"]]);
    equal([await listener.punsubscribe("n*"), await listener.unsubscribe()], [2, 0]);
    equal([await listener.set("k", "v"), await r.publish("news", "d")], ["OK", 0]);
  },

  async fifty_connections_at_once(connect) {
    const r = connect();
    const work = async (own) => {
      for (let n = 0; n < 40; n++) {
        await own.incr("shared");
      }
    };
    await Promise.all(Array.from({ length: 50 }, () => work(connect())));
    equal(await r.get("shared"), "2000");
  },
};

for (const protocol of [2, 3]) {
  const opened = [];
  const connect = (options) => {
    opened.push(new Redis({ port: PORT, protocol, ...options }));
    return opened.at(-1);
  };
  const r = connect();
  await run(`ioredis, RESP${protocol}`, () => r.flushall(), CHECKS, connect, protocol);
  opened.forEach((connection) => connection.disconnect());
}
