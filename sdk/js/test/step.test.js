import assert from "node:assert/strict";
import { test } from "node:test";

import { Fatal, Reject, Retry, fatal, log, output, reject, retry, secrets, settings, step } from "weir-step";
import { context, event, host } from "weir-step/testing";

const run = (handle, ...events) => step(handle)(context(), events);

test("an event's data is read as JSON, text and bytes", () => {
  run(
    (_, [one, two]) => {
      assert.deepEqual(one.json(), { id: 7 });
      assert.equal(one.contentType, "application/json");
      assert.equal(two.text(), "hé");
      assert.equal(two.data.length, 3);
      assert.equal(two.edge, "a.b");
      assert.equal(two.header("x-trace"), "t1");
      assert.equal(two.header("other"), undefined);
      assert.deepEqual(two.key, new TextEncoder().encode("k"));
    },
    event({ id: 7 }),
    event("hé", { edge: "a.b", key: "k", headers: { "X-Trace": "t1" } }),
  );
});

test("what cannot be read is rejected, with the edge", () => {
  const read = (handle, data) => () => run(handle, event(data, { edge: "a.b" }));
  assert.throws(read((_, [e]) => e.json(), "{x"), { name: "Reject", message: /^the event on "a.b" is not JSON: / });
  assert.throws(read((_, [e]) => e.text(), Uint8Array.of(255)), { name: "Reject", message: 'the event on "a.b" is not UTF-8' });
});

test("outputs are one, several or none", () => {
  const [json] = run(() => output("out", { a: "é" }));
  assert.deepEqual([json.port, json.contentType, json.key, json.headers], ["out", "application/json", undefined, []]);
  assert.deepEqual(json.json(), { a: "é" });
  const long = "é".repeat(40_000);
  const [text, raw] = run(() => [output("a", long, { contentType: "text/plain", key: "k" }), output("b", Uint8Array.of(1), { headers: { h: "v" } })]);
  assert.equal(text.text(), long);
  assert.deepEqual([text.contentType, raw.contentType], ["text/plain", undefined]);
  assert.equal(raw.header("H"), "v");
  assert.deepEqual(run(() => undefined), []);
  assert.throws(() => run(() => ({ port: "out" })), TypeError);
  assert.throws(() => output("out", undefined), TypeError);
});

test("an output keeps its own bytes", () => {
  const [a, b] = run(() => [output("out", "one"), output("out", "two")]);
  assert.deepEqual([a.text(), b.text()], ["one", "two"]);
});

test("failures are what Weir's world calls them", () => {
  const payload = (fail) => {
    try {
      run(fail, event({}));
    } catch (error) {
      return error.payload;
    }
  };
  assert.deepEqual(payload(() => reject("bad")), { tag: "reject", val: "bad" });
  assert.deepEqual(payload(() => fatal("gone")), { tag: "fatal", val: "gone" });
  assert.deepEqual(payload(() => retry("busy")), { tag: "retry", val: [undefined, "busy"] });
  assert.deepEqual(payload(() => retry("busy", { afterMs: 1500 })), { tag: "retry", val: [1500n, "busy"] });
  assert.ok(new Reject("x") instanceof Error && new Retry("x") instanceof Error && new Fatal("x") instanceof Error);
});

test("any other exception passes through, of an async step too", async () => {
  assert.throws(() => run(() => { throw new RangeError("boom"); }), RangeError);
  await assert.rejects(run(async () => { throw new RangeError("boom"); }), RangeError);
  await assert.rejects(run(async () => reject("bad")), Reject);
  assert.equal((await run(async () => output("out", "x")))[0].text(), "x");
});

test("the context's time", () => {
  step((ctx) => {
    assert.equal(ctx.time.toISOString(), "2026-01-01T00:00:00.123Z");
    assert.equal(ctx.attempt, 2);
  })(context({ timeUs: 1_767_225_600_123_456n, attempt: 2 }), []);
});

test("settings, secrets and log", () => {
  host.settings = { rate: { de: 19 } };
  host.secrets = { TOKEN: "t" };
  assert.equal(settings().rate.de, 19);
  assert.equal(settings(), settings());
  assert.throws(() => { settings().rate.de = 7; }, TypeError);
  assert.equal(secrets.get("TOKEN"), "t");
  assert.throws(() => secrets.get("OTHER"), /not granted/);
  log.warn("careful");
  log.info({ a: 1 });
  assert.deepEqual(host.logs, [{ level: "warn", message: "careful" }, { level: "info", message: '{"a":1}' }]);
});
