// Runs checks one after the other, a line for each; the first that fails ends the script with its stack.
// The libraries come from the folder that QUORIS_CLIENTS names: modules find nothing by a search path.

import { createRequire } from "node:module";
import { deepStrictEqual, fail, ok } from "node:assert/strict";

export const library = createRequire(process.env.QUORIS_CLIENTS + "/");
export const equal = deepStrictEqual;
export { ok };

export const ALL_BYTES = Buffer.from(Array.from({ length: 256 }, (_, n) => n));
export const LARGE = Buffer.alloc(5 * 1024 * 1024, ALL_BYTES);

const WITHIN_MS = 20_000;

export async function run(client, before, checks, ...values) {
  for (const [name, check] of Object.entries(checks)) {
    await before();
    process.stdout.write(`${client}: ${name.replaceAll("_", " ")} `);
    await check(...values);
    process.stdout.write("ok\n");
  }
}

/** The promise fails with an error of which `test` is true. */
export async function rejects(promise, test) {
  const error = await promise.then((found) => fail(`${found} instead of an error`), (error) => error);
  ok(test(error), error);
}

export async function until(what, ask) {
  const deadline = Date.now() + WITHIN_MS;
  while (!(await ask())) {
    ok(Date.now() < deadline, `not in time: ${what}`);
    await new Promise((wake) => setTimeout(wake, 5));
  }
}
