/** Stands in for Weir outside of WebAssembly, so that a step can be tested with plain Node. See testing.js. */
export const host = { settings: {}, secrets: {}, logs: [] };

export function write(level, message) {
  host.logs.push({ level, message });
}

export function getSettings() {
  return JSON.stringify(host.settings);
}

export function getSecret(name) {
  if (!Object.hasOwn(host.secrets, name)) throw new Error(`the secret "${name}" is not granted`);
  return host.secrets[name];
}

/** As engine.js has it; Math.random is Node's own here. */
export function begin() {}

export const unexpected = (error) => error;
