/**
 * What a step needs where it runs inside Weir; loaded before anything else. stubs.js has the same for tests.
 *
 * `Math.random` comes from the record, as WASI's randomness does: seeded anew for each call by execution, attempt and step. The engine
 * would seed its own once for each instance, so that a call on a reused one would depend on those before it.
 *
 * The generator is sfc32. Fit for samples and ids, never for keys.
 */
let call;
let state;

/** A call begins; its generator is made when it is asked for. */
export function begin(ctx) {
  call = ctx;
  state = undefined;
}

Math.random = () => {
  state ??= seeded(call === undefined ? "" : `${call.execution}/${call.attempt}/${call.step}`);
  return (next(state) * 2 ** 21 + (next(state) >>> 11)) / 2 ** 53;
};

function seeded(text) {
  // FNV-1a with four offsets
  const state = Uint32Array.of(0x811c9dc5, 0x9e3779b9, 0x243f6a88, 0xb7e15162);
  for (let i = 0; i < text.length; i++) {
    for (let k = 0; k < 4; k++) state[k] = Math.imul(state[k] ^ text.charCodeAt(i), 0x01000193);
  }
  for (let i = 0; i < 16; i++) next(state);
  return state;
}

function next(s) {
  const result = (s[0] + s[1] + s[3]) >>> 0;
  s[3] += 1;
  s[0] = s[1] ^ (s[1] >>> 9);
  s[1] = s[2] + (s[2] << 3);
  s[2] = ((s[2] << 21) | (s[2] >>> 11)) + result;
  return result;
}

/** What to throw so that the engine prints `error` and traps, instead of complaining that it is not a `failure`. */
export function unexpected(error) {
  // it prints the message only
  if (error instanceof Error) error.message = String(error);
  const payload = {
    get tag() {
      throw error;
    },
  };
  return { payload };
}
