/** Stands in for the global `fetch` in the bundle. Only where this file is part of it does the component import `wasi:http`. */
export function weir_step_fetch(...args) {
  return Reflect.get(globalThis, "fetch")(...args);
}
