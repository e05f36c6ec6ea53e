/** Lines in the execution's log. The graph must say `log: true`. */
import { write } from "#log";

const text = (message) => (typeof message === "string" ? message : JSON.stringify(message) ?? String(message));

export const debug = (message) => write("debug", text(message));
export const info = (message) => write("info", text(message));
export const warn = (message) => write("warn", text(message));
export const error = (message) => write("error", text(message));
