/** Calls a step with plain Node, as Weir would: `await handle(context(), [event({ id: 1 })])`. */
import { Output } from "./index.js";

/** What the step's `settings()` and `secrets.get` see, and the lines that it logged. */
export { host } from "./stubs.js";

/** An event as Weir hands it to `handle`; `data` as in `output`. */
export function event(data, { edge = "trigger", ...options } = {}) {
  const { key, contentType = "application/json", headers, data: bytes } = new Output("out", data, options);
  return { edge, key, contentType, headers, data: bytes };
}

/** A call's context, with what differs from the first try of an execution in 2026. */
export function context(fields) {
  return {
    tenant: "default",
    graph: "test",
    version: "0".repeat(64),
    execution: "00000000-0000-4000-8000-000000000000",
    step: "step",
    attempt: 1,
    timeUs: 1_767_225_600_000_000n,
    ...fields,
  };
}
