import { existsSync } from "node:fs";
import { createRequire } from "node:module";
import { availableParallelism } from "node:os";
import { fileURLToPath } from "node:url";
import { check, SwitchyardError } from "../errors.js";
import { checkOptions, show } from "../options.js";
import type { Engine } from "./engine.js";
import { NativeEngine } from "./native.js";
import { addonVersion, type NativeAddon } from "./native-addon.js";
import { mostThreads } from "./native-memory.js";
import { ReferenceEngine } from "./reference.js";

export interface EngineOptions {
  /** Default: native when its addon can be loaded, else reference with a warning. Environment: SWITCHYARD_ENGINE. */
  engine?: "native" | "reference" | undefined;
  /** Kernel variant of the native engine, default the best of this CPU. Environment: SWITCHYARD_ISA. */
  isa?: string | undefined;
  /** Threads of the native engine, default all cores this process may use. Environment: SWITCHYARD_THREADS. */
  threads?: number | undefined;
  /** f64 is for gradient checks and is the reference engine's alone. */
  float?: "f32" | "f64" | undefined;
}

/** A variable of the environment; one that is empty counts as not set. */
const variable = (name: string): string | undefined => process.env[name] || undefined;

/** The nearest folder above this file with a package.json, wherever the file was compiled to. */
function packageRoot(): string {
  let folder = new URL(".", import.meta.url);
  while (folder.pathname !== "/" && !existsSync(new URL("package.json", folder))) folder = new URL("..", folder);
  return fileURLToPath(folder);
}

/** Where the addon may be, in order: a path given by hand, a local build, the package's own binary. */
function addonPaths(): string[] {
  const explicit = variable("SWITCHYARD_ADDON");
  if (explicit !== undefined) return [explicit];
  const root = packageRoot();
  return [`${root}build/switchyard.node`, `${root}prebuilds/${process.platform}-${process.arch}/switchyard.node`];
}

/** The addon and its path, or why there is none. */
function loadAddon(): { addon: NativeAddon; path: string } | { reason: string } {
  const paths = addonPaths();
  const path = paths.find((candidate) => existsSync(candidate));
  if (path === undefined) return { reason: `no addon at ${paths.join(" or ")}` };
  try {
    return { addon: createRequire(import.meta.url)(path) as NativeAddon, path };
  } catch (cause) {
    return { reason: `${path}: ${(cause as Error).message}` };
  }
}

/** Throws ERR_SWITCHYARD_ENGINE for an addon of other sources than these: its ops may take other arguments, or mean something else by them. */
function checkVersion(addon: Partial<NativeAddon>, path: string): void {
  const built = addon.version?.();
  const remedy = existsSync(`${packageRoot()}scripts/setup.mjs`) ? "npm run build" : "npx switchyard build-engine"; // a clone, an install
  check(
    built === addonVersion,
    "ERR_SWITCHYARD_ENGINE",
    () => `engine: ${path} is of another version of Switchyard: expected ops of version ${addonVersion}, got ${built ?? "none"}; build it again with: ${remedy}`,
  );
}

function threadsOfEnvironment(): number | undefined {
  const text = variable("SWITCHYARD_THREADS");
  const threads = text === undefined ? undefined : Number(text);
  check(
    threads === undefined || (Number.isInteger(threads) && threads >= 1 && threads <= mostThreads),
    "ERR_SWITCHYARD_USAGE",
    () => `SWITCHYARD_THREADS: expected an integer from 1 to ${mostThreads}, got "${text}"`,
  );
  return threads;
}

let warned = false;

/**
 * The engine to compute with. Options win over the environment. Throws ERR_SWITCHYARD_ENGINE when the engine or kernel variant
 * that was asked for cannot be had, or the addon is of another version; without such a wish the reference engine is the fallback, with one warning on stderr.
 */
export function loadEngine(options: EngineOptions = {}): Engine {
  checkOptions("loadEngine", options, { engine: true, isa: true, threads: true, float: true });
  check(options.float === undefined || options.float === "f32" || options.float === "f64", "ERR_SWITCHYARD_USAGE", () => `engine: float: expected "f32" or "f64", got ${show(options.float)}`);
  const wanted = options.engine ?? variable("SWITCHYARD_ENGINE") ?? (options.float === "f64" ? "reference" : undefined);
  check(
    wanted === undefined || wanted === "native" || wanted === "reference",
    "ERR_SWITCHYARD_USAGE",
    () => `${options.engine === undefined ? "SWITCHYARD_ENGINE" : "engine"}: expected "native" or "reference", got "${wanted}"`,
  );
  check(wanted !== "native" || options.float !== "f64", "ERR_SWITCHYARD_USAGE", () => `engine: only the reference engine computes in f64`);
  const reference = () => new ReferenceEngine(options.float === undefined ? {} : { float: options.float });
  if (wanted === "reference") return reference();
  const loaded = loadAddon();
  if ("reason" in loaded) {
    const given = variable("SWITCHYARD_ADDON") !== undefined;
    if (wanted === "native" || given) {
      const remedy = given ? "unset SWITCHYARD_ADDON, or let it name an addon that is there" : "build it with: npx switchyard build-engine";
      throw new SwitchyardError("ERR_SWITCHYARD_ENGINE", `engine: the native engine cannot be loaded (${loaded.reason}); ${remedy}`);
    }
    if (!warned) process.stderr.write(`switchyard: the slow reference engine is used (${loaded.reason}); for full speed run: npx switchyard build-engine\n`);
    warned = true;
    return reference();
  }
  checkVersion(loaded.addon, loaded.path);
  const engine = new NativeEngine(loaded.addon, loaded.path, options.isa ?? variable("SWITCHYARD_ISA"));
  engine.threads = options.threads ?? threadsOfEnvironment() ?? Math.min(availableParallelism(), mostThreads);
  return engine;
}
