import { readdirSync, readFileSync } from "node:fs";
import { dirname, join, normalize, sep } from "node:path";
import { expect, test } from "vitest";

/**
 * Folders of src/ (and files that stand there alone), each importing only from itself and from those before it. `autograd` stands before
 * `ops` because every op's forward puts its backward on the tape (docs/decisions/0004-tape-before-ops.md).
 */
const layers = [
  "errors", "options", "tensor", "engine", "autograd", "ops", "routing", "moe", "formats", "quant", "tokenizer", "model", "data",
  "train", "generate", "inspect", "server", "cli", "index",
];

/** Files above 300 lines, each with the reason why it is one file. */
const long: Record<string, string> = {};

/** Field names of Hugging Face's config.json; elsewhere our own camelCase names stand for them. */
const huggingFaceNames =
  /\b(num_experts_per_tok|num_local_experts|num_experts|n_routed_experts|n_shared_experts|moe_intermediate_size|shared_expert_intermediate_size|intermediate_size|hidden_size|num_hidden_layers|num_attention_heads|num_key_value_heads|norm_topk_prob|routed_scaling_factor|topk_group|decoder_sparse_step|mlp_only_layers|first_k_dense_replace|router_aux_loss_coef|rms_norm_eps|rope_theta|rope_parameters|tie_word_embeddings|max_position_embeddings)\b/;
const mayUseHuggingFaceNames = /^(formats|model\/families)\//;

const src = join(import.meta.dirname, "../src");
const files = readdirSync(src, { recursive: true, encoding: "utf8" })
  .map((name) => name.replaceAll(sep, "/"))
  .filter((name) => name.endsWith(".ts") && !name.endsWith(".test.ts"))
  .map((name) => ({ name, text: readFileSync(join(src, name), "utf8") }));

/** First folder of a path inside src/, or the name of a file that stands there alone. */
const layerOf = (name: string): string => name.split("/")[0]!.replace(/\.[jt]s$/, "");

/** Paths relative to src/ of everything a file imports or re-exports from our own sources. */
function importsOf(name: string, text: string): string[] {
  const specifiers = text.matchAll(/(?:\bfrom\s*|\bimport\s*\(?\s*)["'](\.[^"']*)["']/g);
  return [...specifiers].map((match) => normalize(join(dirname(name), match[1]!)).replaceAll(sep, "/"));
}

test("the reader of imports sees every form", () => {
  const text = 'import { a } from "./a.js";\nexport * from "../b/c.js";\nimport type {\n  D,\n} from "../d.js";\nimport "./e.js";\nawait import("./f.js");\nimport z from "zod";';
  expect(importsOf("x/y.ts", text)).toEqual(["x/a.js", "b/c.js", "d.js", "x/e.js", "x/f.js"]);
});

test("a folder imports only from folders before it, so no two import each other", () => {
  expect(files.length).toBeGreaterThan(0);
  const wrong = files.flatMap(({ name, text }) => {
    const own = layers.indexOf(layerOf(name));
    if (own < 0) return [`${name} is in no layer`];
    const targets = importsOf(name, text).filter((target) => {
      const layer = layers.indexOf(layerOf(target));
      return layer < 0 || layer > own;
    });
    return targets.map((target) => `${name} imports ${target}`);
  });
  expect(wrong).toEqual([]);
});

test("files have at most 300 lines, or a reason and at most 500", () => {
  const lines = new Map(files.map(({ name, text }) => [name, text.trimEnd().split("\n").length]));
  const tooLong = [...lines].filter(([name, count]) => count > (name in long ? 500 : 300)).map(([name, count]) => `${name}: ${count}`);
  expect(tooLong).toEqual([]);
  expect(Object.keys(long).filter((name) => (lines.get(name) ?? 0) <= 300), "no longer long").toEqual([]);
});

test("Hugging Face field names stay in formats/ and model/families/", () => {
  const wrong = files.flatMap(({ name, text }) => {
    const found = mayUseHuggingFaceNames.test(name) ? null : huggingFaceNames.exec(text);
    return found ? [`${name}: ${found[0]}`] : [];
  });
  expect(wrong).toEqual([]);
});

test("sources are plain ASCII", () => {
  expect(files.filter(({ text }) => /[^\x00-\x7f]/.test(text)).map(({ name }) => name)).toEqual([]);
});

test("suites that need the native engine are skipped where there is none", () => {
  const suites = [src, import.meta.dirname].flatMap((folder) => readdirSync(folder, { recursive: true, encoding: "utf8" }).map((name) => join(folder, name)));
  const careless = suites.filter((path) => {
    if (!path.endsWith(".test.ts") || path === import.meta.filename) return false;
    const text = readFileSync(path, "utf8");
    return /describe\.(each\(nativeVariants\)|skipIf\(nativeVariants)/.test(text) || (text.includes('loadEngine({ engine: "native"') && !/describe(Native|Variants)|nativeVariants/.test(text));
  });
  expect(careless).toEqual([]);
});
