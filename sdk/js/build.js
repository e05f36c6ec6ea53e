/**
 * Makes a component of a step's source: one bundle, a world of just what the bundle uses, SpiderMonkey around it.
 *
 * `weir apply` asks for a grant for each import of log, secrets and HTTP, so what tree shaking leaves of `weir:step/*` and `fetch`
 * decides what the component imports.
 */
import { copyFile, mkdir, mkdtemp, rm, stat, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";

import { componentize } from "@bytecodealliance/componentize-js";
import esbuild from "esbuild";

const here = dirname(fileURLToPath(import.meta.url));
const fetchFile = join(here, "fetch.js");

/** Builds `source` into `out`; gives the interfaces beyond WASI's clocks, randomness and streams that it imports, and its size. */
export async function build(source, out) {
  const { text, interfaces, http } = await bundle(source);
  const dir = await mkdtemp(join(tmpdir(), "weir-step-"));
  try {
    const sourcePath = join(dir, "step.js");
    await writeFile(sourcePath, text);
    const { component } = await componentize({
      sourcePath,
      witPath: await world(dir, interfaces),
      worldName: "app",
      disableFeatures: http ? ["fetch-event"] : ["http", "fetch-event"],
    });
    await mkdir(dirname(resolve(out)), { recursive: true });
    await writeFile(out, component);
    return { imports: http ? [...interfaces, "wasi:http/outgoing-handler"] : interfaces, bytes: component.byteLength };
  } finally {
    await rm(dir, { recursive: true });
  }
}

async function bundle(source) {
  const entry = `import "weir-step:engine"; export { handle } from ${JSON.stringify(resolve(source))};`;
  const { outputFiles, metafile } = await esbuild.build({
    stdin: { contents: entry, resolveDir: dirname(resolve(source)), sourcefile: "weir-step-entry.js" },
    bundle: true,
    format: "esm",
    platform: "neutral",
    mainFields: ["module", "main"],
    target: "es2022",
    keepNames: true,
    write: false,
    metafile: true,
    outfile: "step.js",
    logLevel: "warning",
    define: { fetch: "weir_step_fetch", "globalThis.fetch": "weir_step_fetch" },
    inject: [fetchFile],
    plugins: [weir],
  });
  const [{ imports, inputs }] = Object.values(metafile.outputs);
  const used = (file) => Object.entries(inputs).some(([path, { bytesInOutput }]) => resolve(path) === file && bytesInOutput > 0);
  const interfaces = imports.filter(({ external }) => external).map(({ path }) => path);
  return { text: outputFiles[0].text, interfaces: [...new Set(interfaces)].sort(), http: used(fetchFile) };
}

/** Puts the host's side in the place of stubs.js. */
const weir = {
  name: "weir",
  setup(build) {
    const host = (path) => ({ path, namespace: "weir", sideEffects: false });
    build.onResolve({ filter: /^#(log|secrets|settings)$/ }, ({ path, importer }) =>
      dirname(importer) === here ? host(path.slice(1)) : undefined,
    );
    build.onResolve({ filter: /^(#|weir-step:)engine$/ }, () => ({ path: join(here, "engine.js") }));
    build.onResolve({ filter: /^weir:step\// }, ({ path }) => ({ path, external: true, sideEffects: false }));
    build.onLoad({ filter: /.*/, namespace: "weir" }, ({ path }) => ({ contents: hostSide[path] }));
  },
};

const hostSide = {
  log: 'export { write } from "weir:step/log@1.0.0";',
  secrets: 'export { get as getSecret } from "weir:step/secrets@1.0.0";',
  settings: 'export { get as getSettings } from "weir:step/settings@1.0.0";',
};

/** A WIT folder with the world `app`: a step that imports `interfaces`. */
async function world(dir, interfaces) {
  const deps = join(dir, "wit", "deps", "step");
  await mkdir(deps, { recursive: true });
  await copyFile(join(here, "wit", "step.wit"), join(deps, "step.wit"));
  const imports = interfaces.map((name) => `    import ${name};\n`).join("");
  await writeFile(
    join(dir, "wit", "app.wit"),
    `package weir:app;\n\nworld app {\n    include weir:step/step@1.0.0;\n${imports}}\n`,
  );
  return join(dir, "wit");
}

/** The source to build where none is named. */
export async function defaultSource() {
  for (const name of ["step.ts", "step.js", "src/step.ts", "src/step.js"]) {
    if (await stat(name).then((found) => found.isFile(), () => false)) return name;
  }
  throw new Error("no step.js or step.ts here; name the source");
}
