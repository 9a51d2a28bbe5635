// Reads events from a position on. Any node of the cluster may be asked.

/** Hands every event behind `cursor` to `handle`, with the cursor behind it, until it says false. */
export async function follow(redis, stream, cursor, handle) {
  for (;;) {
    const found = await redis.xread("COUNT", 1000, "BLOCK", 1000, "STREAMS", stream, cursor);
    // With RESP2 a list of streams, with RESP3 a map.
    const entries = !found ? [] : Array.isArray(found[0]) ? found[0][1] : found[1];
    for (const [id, list] of entries) {
      cursor = id;
      const fields = Object.fromEntries(list.flatMap((name, at) => (at % 2 ? [] : [[name, list[at + 1]]])));
      if ((await handle(id, fields)) === false) {
        return cursor;
      }
    }
  }
}
