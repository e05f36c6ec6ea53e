/** `node --import weir-step/typescript --test`: TypeScript in tests, its types stripped as in the build. */
import { readFile } from "node:fs/promises";
import { register } from "node:module";
import { isMainThread } from "node:worker_threads";

import esbuild from "esbuild";

if (isMainThread) register(import.meta.url);

export async function load(url, context, next) {
  if (!/^file:.*\.ts$/.test(url)) return next(url, context);
  const source = await readFile(new URL(url), "utf8");
  const { code } = await esbuild.transform(source, { loader: "ts", format: "esm", sourcefile: url, sourcemap: "inline" });
  return { format: "module", source: code, shortCircuit: true };
}
