#!/usr/bin/env node
/** `weir-step build [SOURCE] [-o step.wasm]` */
import { parseArgs } from "node:util";

const usage = "usage: weir-step build [SOURCE] [-o step.wasm]";

try {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: { output: { type: "string", short: "o", default: "step.wasm" }, help: { type: "boolean", short: "h" } },
  });
  const [command, source, ...rest] = positionals;
  if (values.help) {
    console.log(usage);
  } else if (command !== "build" || rest.length > 0) {
    throw new Error(usage);
  } else {
    const { build, defaultSource } = await import("./build.js");
    const { bytes, imports } = await build(source ?? (await defaultSource()), values.output);
    const size = (bytes / 2 ** 20).toFixed(1);
    console.log(`${values.output}: ${size} MiB, imports ${imports.length > 0 ? imports.join(", ") : "nothing that needs a grant"}`);
  }
} catch (error) {
  // esbuild has said already what is wrong with the source
  if (!Array.isArray(error.errors)) console.error(error.message);
  process.exitCode = 1;
}
