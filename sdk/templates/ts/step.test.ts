import assert from "node:assert/strict";
import { test } from "node:test";

import { Reject } from "weir-step";
import { context, event, host } from "weir-step/testing";

import { handle } from "./step.ts";

host.settings = { tax: 0.2 };

test("an order gets its total", () => {
  const order = { id: "o-1", items: [{ quantity: 2, cents: 500 }, { quantity: 1, cents: 250 }] };
  const [priced] = handle(context(), [event(order)]);
  assert.equal(priced.port, "out");
  assert.deepEqual(priced.json(), { ...order, net: 1250, tax: 250, total: 1500, priced: "2026-01-01T00:00:00.000Z" });
  assert.deepEqual(host.logs, [{ level: "info", message: "o-1: 2 items, 1250 cents" }]);
});

test("an order without items is rejected", () => {
  assert.throws(() => handle(context(), [event({ id: "o-2" })]), Reject);
});
