/** Bytes, or text that becomes UTF-8. */
export type Bytes = Uint8Array | string;
export type Headers = Record<string, Bytes> | Array<[name: string, value: Bytes]>;

/** Where this call stands. Never changes between two runs of the same execution, but for `attempt`. */
export class Context {
  readonly tenant: string;
  readonly graph: string;
  /** sha256 of the graph's canonical form, in hex */
  readonly version: string;
  /** the execution's id, a UUID */
  readonly execution: string;
  readonly step: string;
  /** 1 for the first try */
  readonly attempt: number;
  /** the trigger's time, microseconds since 1970-01-01 UTC */
  readonly timeUs: bigint;
  /** the same, to the millisecond */
  readonly time: Date;
}

declare class Message {
  readonly key: Uint8Array | undefined;
  readonly headers: Array<[name: string, value: Uint8Array]>;
  readonly data: Uint8Array;
  /** The data as JSON. What cannot be read is rejected. `T` is believed, not checked. */
  json<T = any>(): T;
  /** The data as text. What is no UTF-8 is rejected. */
  text(): string;
  /** The first header of this name, whatever its case, as text. */
  header(name: string): string | undefined;
  headerBytes(name: string): Uint8Array | undefined;
}

/** One event that arrives over an edge. */
export class Event extends Message {
  /** the edge it came over: `trigger` or `step.port` */
  readonly edge: string;
  readonly contentType: string;
}

export interface OutputOptions {
  /** none: the key of the input */
  key?: Bytes;
  headers?: Headers;
  /** none: `application/json` where `data` is written as JSON, else the content type of the input */
  contentType?: string;
}

/** One event that the step emits. */
export class Output extends Message {
  constructor(port: string, data: unknown, options?: OutputOptions);
  readonly port: string;
  readonly contentType: string | undefined;
}

/** An event for `port` (`out` where the graph names none). Bytes and text go out as they are, anything else as JSON. */
export function output(port: string, data: unknown, options?: OutputOptions): Output;

export type Outputs = Output | Output[] | undefined | null | void;
export type Handle = (ctx: Context, events: Event[]) => Outputs | Promise<Outputs>;

/** Makes a component's `handle`: `export const handle = step((ctx, events) => …)`. */
export function step(handle: Handle): (ctx: any, input: any[]) => any;

/** This input can never work: it becomes a dead letter. */
export class Reject extends Error {
  constructor(reason: string, options?: { cause?: unknown });
}

/** Try again, as `retry:` in the graph allows. */
export class Retry extends Error {
  constructor(reason: string, options?: { afterMs?: number; cause?: unknown });
  readonly afterMs: number | undefined;
}

/** Nothing of this graph can work any more. */
export class Fatal extends Error {
  constructor(reason: string, options?: { cause?: unknown });
}

/** Throws `Reject`. */
export function reject(reason: string, options?: { cause?: unknown }): never;
/** Throws `Retry`. */
export function retry(reason: string, options?: { afterMs?: number; cause?: unknown }): never;
/** Throws `Fatal`. */
export function fatal(reason: string, options?: { cause?: unknown }): never;

/** Lines in the execution's log; what is no text is written as JSON. The graph must say `log: true`. */
export declare namespace log {
  function debug(message: unknown): void;
  function info(message: unknown): void;
  function warn(message: unknown): void;
  function error(message: unknown): void;
}

/** What the graph says under the step's `settings`: one frozen object. `T` is believed, not checked. */
export function settings<T = any>(): Readonly<T>;

/** Secrets of the tenant. The graph must say `secrets: [NAME]`; asking for another name ends the call. */
export declare namespace secrets {
  function get(name: string): string;
}
