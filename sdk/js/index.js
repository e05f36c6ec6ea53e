/** Write a step of a Weir graph in JavaScript. See README.md. */
import { begin, unexpected } from "#engine";

import { Failure, Reject } from "./errors.js";

export { Fatal, Reject, Retry, fatal, reject, retry } from "./errors.js";
export * as log from "./log.js";
export * as secrets from "./secrets.js";
export { settings } from "./settings.js";

const encoder = new TextEncoder();
const decoder = new TextDecoder("utf-8", { fatal: true });
const scratch = new Uint8Array(48 << 10);

/** What an event that came in and one that goes out have in common. */
class Message {
  /** The data as text. What is no UTF-8 is rejected: no later try will read it either. */
  text() {
    try {
      return decoder.decode(this.data);
    } catch (cause) {
      throw new Reject(`${this} is not UTF-8`, { cause });
    }
  }

  /** The data as JSON. What cannot be read is rejected. */
  json() {
    const text = this.text();
    try {
      return JSON.parse(text);
    } catch (cause) {
      throw new Reject(`${this} is not JSON: ${cause.message}`, { cause });
    }
  }

  /** The first header of this name, whatever its case, as text; `undefined` if there is none. */
  header(name) {
    const bytes = this.headerBytes(name);
    return bytes === undefined ? undefined : new TextDecoder().decode(bytes);
  }

  headerBytes(name) {
    const wanted = name.toLowerCase();
    return this.headers.find(([name]) => name.toLowerCase() === wanted)?.[1];
  }
}

/** One event that arrives over an edge. Weir's own object, given these methods: a copy of it would cost more than they do. */
export class Event extends Message {
  toString() {
    return `the event on "${this.edge}"`;
  }
}

/** One event that the step emits. */
export class Output {
  constructor(port, data, { key, headers, contentType } = {}) {
    this.port = port;
    this.key = key === undefined ? undefined : bytes(key);
    this.contentType = contentType;
    this.headers = headers === undefined ? [] : pairs(headers);
    if (typeof data === "string") {
      this.data = utf8(data);
    } else if (ArrayBuffer.isView(data)) {
      this.data = data;
    } else {
      const text = JSON.stringify(data);
      if (text === undefined) throw new TypeError(`an output's data is ${typeof data}: give bytes, text or what JSON knows`);
      this.data = utf8(text);
      this.contentType ??= "application/json";
    }
  }

  toString() {
    return `the output on "${this.port}"`;
  }
}

// Not `extends`: a derived constructor is slow where there is no JIT.
Object.setPrototypeOf(Output.prototype, Message.prototype);

export const output = (port, data, options) => new Output(port, data, options);

/** Where this call stands; Weir's own object too. */
export class Context {
  /** The trigger's time, to the millisecond. */
  get time() {
    return new Date(Number(this.timeUs / 1000n));
  }
}

/** Makes a component's `handle` of `(ctx, events) => outputs`, which may be `async`. */
export function step(handle) {
  return (ctx, input) => {
    try {
      begin(ctx);
      Object.setPrototypeOf(ctx, Context.prototype);
      for (let i = 0; i < input.length; i++) Object.setPrototypeOf(input[i], Event.prototype);
      const returned = handle(ctx, input);
      return typeof returned?.then === "function" ? returned.then(outputs).catch(failed) : outputs(returned);
    } catch (error) {
      failed(error);
    }
  };
}

function outputs(returned) {
  if (returned === undefined || returned === null) return [];
  const list = Array.isArray(returned) ? returned : [returned];
  for (const one of list) {
    if (!(one instanceof Output)) throw new TypeError("a step returns what output(port, data) makes, a list of it, or nothing");
  }
  return list;
}

/** What is no failure on purpose must not be taken for one, whatever it looks like: the call traps, with the error on stderr. */
function failed(error) {
  throw error instanceof Failure ? error : unexpected(error);
}

// `instanceof Uint8Array` would not do: what Weir hands over was made in another realm.
const bytes = (value) => (ArrayBuffer.isView(value) ? value : utf8(String(value)));

/** `encoder.encode` is far slower than `encodeInto` and a copy. */
function utf8(text) {
  if (text.length * 3 > scratch.length) return encoder.encode(text);
  return scratch.slice(0, encoder.encodeInto(text, scratch).written);
}

function pairs(headers) {
  const list = Array.isArray(headers) ? headers : Object.entries(headers);
  return list.map(([name, value]) => [name, bytes(value)]);
}
