import type { OutputOptions } from "./index.js";

/** What the step's `settings()` and `secrets.get` see, and the lines that it logged. */
export const host: {
  settings: unknown;
  secrets: Record<string, string>;
  logs: Array<{ level: "debug" | "info" | "warn" | "error"; message: string }>;
};

/** An event as Weir hands it to `handle`; `data` as in `output`. */
export function event(data: unknown, options?: OutputOptions & { edge?: string }): any;

/** A call's context, with what differs from the first try of an execution in 2026. */
export function context(fields?: {
  tenant?: string;
  graph?: string;
  version?: string;
  execution?: string;
  step?: string;
  attempt?: number;
  timeUs?: bigint;
}): any;
