/** What the graph says under the step's `settings`. */
import { getSettings } from "#settings";

let text;
let value;

/** One object, frozen all the way down, since it outlives a call. */
export function settings() {
  const now = getSettings();
  if (now !== text) {
    value = frozen(JSON.parse(now));
    text = now;
  }
  return value;
}

function frozen(value) {
  if (typeof value === "object" && value !== null) {
    Object.values(value).forEach(frozen);
    Object.freeze(value);
  }
  return value;
}
