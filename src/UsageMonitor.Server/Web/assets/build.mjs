// Bundles the pages' scripts and styles into wwwroot/assets: names carry a hash of the content, so that browsers and CDNs
// may keep them for ever; every file is compressed here, once, as hard as it goes. manifest.json maps plain to hashed names.
import { build } from "esbuild";
import { mkdir, readFile, readdir, rename, rm, writeFile } from "node:fs/promises";
import { createHash } from "node:crypto";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { brotliCompressSync, constants, gzipSync } from "node:zlib";
import { pruneStyles, themeFollowsSystem, wordsOf } from "./styles.mjs";

const assets = dirname(fileURLToPath(import.meta.url));
const web = dirname(assets);
const output = join(web, "..", "wwwroot", "assets");

const bundle = await build({
  absWorkingDir: assets,
  entryPoints: ["page.ts", "overview.ts", "passkeys.ts", "site.css"],
  outdir: output,
  bundle: true,
  write: false,
  minify: true,
  format: "esm",
  target: ["es2023", "chrome123", "firefox121", "safari17.5"],
  legalComments: "none",
  define: { "process.env.NODE_ENV": '"production"' },
  logLevel: "warning",
});

const sources = await readdir(web, { recursive: true });
const used = wordsOf(
  await Promise.all(
    sources.filter((name) => /\.(razor|ts)$/.test(name)).map((name) => readFile(join(web, name), "utf8")),
  ),
);

const files = new Map(bundle.outputFiles.map((file) => [file.path.slice(output.length + 1), Buffer.from(file.contents)]));
files.set("site.css", Buffer.from(themeFollowsSystem(pruneStyles(files.get("site.css").toString(), used))));
files.set("favicon.svg", await readFile(join(assets, "favicon.svg")));

// Written aside and then renamed: a reader never finds half a folder.
const partial = `${output}.partial`;
await rm(partial, { recursive: true, force: true });
await mkdir(partial, { recursive: true });
const manifest = {};
for (const [name, content] of files) {
  const hash = createHash("sha256").update(content).digest("hex").slice(0, 12);
  const hashed = name.replace(/(\.\w+)$/, `-${hash}$1`);
  const brotli = brotliCompressSync(content, { params: { [constants.BROTLI_PARAM_QUALITY]: 11 } });
  manifest[name] = hashed;
  await writeFile(join(partial, hashed), content);
  await writeFile(join(partial, `${hashed}.br`), brotli);
  await writeFile(join(partial, `${hashed}.gz`), gzipSync(content, { level: 9 }));
  console.log(`${hashed.padEnd(36)} ${String(content.length).padStart(7)} bytes, ${String(brotli.length).padStart(6)} brotli`);
}

await writeFile(join(partial, "manifest.json"), JSON.stringify(manifest, null, 2));
await rm(output, { recursive: true, force: true });
await rename(partial, output);
