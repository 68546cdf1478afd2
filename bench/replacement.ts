/**
 * Which experts should stay in memory? Hit rates of replacement policies, against the clairvoyant optimum.
 * npm run bench replacement -- [--tokens 3000] [--trace FILE] [--json]
 *
 * Without a trace: routing of OLMoE-1B-7B with the locality that is published of it (allenai/OLMoE, scripts/routing_output, beside the checkout
 * in ../shared/data or $SWITCHYARD_DATA). That is counts, not sequences: for three layers and each domain, how often each of the 64 experts took each token of the vocabulary.
 * Sequences are made from them: the ids of real text, and for each id and layer eight experts drawn without replacement by its counts. What
 * makes neighbours alike in the real model beside their ids, their context, is missing, so that real hit rates should be higher. With --trace FILE: what
 * `switchyard generate --routing-out FILE` recorded.
 */
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { gunzipSync } from "node:zlib";
import { loadEngine } from "../src/engine/load.js";
import type { JsonObject } from "../src/formats/json.js";
import { hitRate, type Replacement } from "../src/inspect/replacement.js";
import { Random } from "../src/tensor/random.js";
import { HuggingFaceTokenizer } from "../src/tokenizer/hugging-face.js";
import { type BenchResult, machine } from "./bench.js";

const policies: [string, Replacement][] = [
  ["least recent", "least recent"],
  ["least frequent", "least frequent"],
  ...[16, 64, 128, 256, 1024].map((halfLife): [string, Replacement] => [`popular, ${halfLife} tokens`, { halfLife }]),
  ["clairvoyant", "clairvoyant"],
];
const shares = [0.15, 0.25, 0.5, 0.75];
const ours = "popular, 128 tokens";

interface Trace {
  name: string;
  experts: number;
  layers: number;
  /** Per token and layer the experts, numbered through all layers. */
  groups: number[][];
}

export async function run(args: string[]): Promise<BenchResult> {
  const { values } = parseArgs({ args, options: { tokens: { type: "string", default: "3000" }, trace: { type: "string" } } });
  const traces = values.trace === undefined ? publishedTraces(Number(values.tokens)) : [recordedTrace(values.trace)];
  const rows: Record<string, string | number>[] = [];
  let [sum, best] = [0, 0];
  for (const { name, experts, layers, groups } of traces) {
    for (const share of shares) {
      const slots = Math.floor(share * experts * layers);
      const rate = (policy: Replacement) => hitRate(groups, slots, policy, layers);
      const row: Record<string, string | number> = { trace: name, "in memory": `${100 * share} %`, "least recent per layer": percent(perLayer(groups, layers, Math.floor(slots / layers))) };
      for (const [label, policy] of policies) {
        const figure = rate(policy);
        row[label] = percent(figure);
        if (label === ours) sum += figure;
        if (label === "clairvoyant") best += figure;
      }
      rows.push(row);
    }
  }
  const cases = rows.length;
  const note = `Percent of uses that find their expert in memory, of so much of all experts. One half-life for all: uses count half after so many tokens. ${values.trace === undefined ? "Sequences made from published counts: see the head of bench/replacement.ts." : ""}`;
  return { name: "replacement", unit: "mean hit rate of the cache's policy", ours: sum / cases, peer: best / cases, ratio: sum / best, peak: null, machine: machine(loadEngine()), rows, note };
}

const percent = (rate: number): number => Math.round(1000 * rate) / 10;

/** Each layer has its own, equally many places. */
function perLayer(groups: readonly number[][], layers: number, slots: number): number {
  const of = (layer: number) => groups.filter((_, i) => i % layers === layer);
  const uses = (layer: number) => of(layer).reduce((n, group) => n + group.length, 0);
  const total = Array.from({ length: layers }, (_, l) => ({ uses: uses(l), hits: uses(l) * hitRate(of(l), slots, "least recent", 1) }));
  return total.reduce((n, { hits }) => n + hits, 0) / total.reduce((n, t) => n + t.uses, 0);
}

/** One trace per kind of text: its domain's own counts. */
function publishedTraces(tokens: number): Trace[] {
  const data = process.env["SWITCHYARD_DATA"] ?? fileURLToPath(new URL("../../../../shared/data", import.meta.url));
  const counts = join(data, "routing-olmoe-mixtral/olmoe/eid2token");
  if (!existsSync(counts)) throw new Error(`replacement: no ${counts}; give a trace with --trace FILE`);
  const file = join(data, "tokenizers/olmoe/allenai_gpt-neox-olmo-dolma-v1_5.json");
  const tokenizer = new HuggingFaceTokenizer(file, JSON.parse(readFileSync(file, "utf8")) as JsonObject, {});
  const texts: [string, string, string][] = [
    ["wikipedia", join(data, "wikitext-2/test.txt"), "wikipedia"],
    ["book", join(data, "tinyshakespeare/input.txt"), "book"],
    ["code", fileURLToPath(new URL("../../../src/routing/route.ts", import.meta.url)), "github"],
  ];
  return texts.map(([name, text, domain]) => {
    const ids = tokenizer.encode(readFileSync(text, "utf8").slice(0, 12 * tokens)).slice(0, tokens);
    const layers = JSON.parse(gunzipSync(readFileSync(join(counts, `${domain}.json.gz`))).toString()) as Record<string, Record<string, number>>[];
    return { name: `OLMoE, ${name}`, experts: 64, layers: layers.length, groups: drawn(ids, layers.map(byToken)) };
  });
}

/** Expert -> token -> count, turned round. */
function byToken(layer: Record<string, Record<string, number>>): Map<number, Float64Array> {
  const counts = new Map<number, Float64Array>();
  for (const [expert, tokens] of Object.entries(layer)) {
    for (const [token, count] of Object.entries(tokens)) {
      const known = counts.get(Number(token)) ?? new Float64Array(64);
      known[Number(expert)] = count;
      counts.set(Number(token), known);
    }
  }
  return counts;
}

function drawn(ids: ArrayLike<number>, layers: readonly Map<number, Float64Array>[]): number[][] {
  const random = new Random(1);
  const overall = layers.map((layer) => [...layer.values()].reduce((sum, counts) => sum.map((n, e) => n + (counts[e] as number)), new Float64Array(64)));
  return Array.from(ids).flatMap((id) => layers.map((layer, l) => {
    // Eight different ones: where a token has been seen too rarely, all tokens' counts decide.
    const weights = Float64Array.from(layer.get(id) ?? (overall[l] as Float64Array));
    const total = (overall[l] as Float64Array).reduce((a, b) => a + b);
    for (let e = 0; e < 64; e++) weights[e] = (weights[e] as number) + (1e-3 * ((overall[l] as Float64Array)[e] as number)) / total;
    return Array.from({ length: 8 }, () => {
      let left = random.float() * weights.reduce((a, b) => a + b);
      let e = 0;
      while (e < 63 && (left -= weights[e] as number) >= 0) e++;
      while (weights[e] === 0) e--;
      weights[e] = 0;
      return 64 * l + e;
    });
  }));
}

function recordedTrace(path: string): Trace {
  const tokens = readFileSync(path, "utf8").trim().split("\n").map((line) => (JSON.parse(line) as { layers: { experts: number[] }[] }).layers.map(({ experts }) => experts));
  const experts = 1 + Math.max(...tokens.flat(2));
  return { name: path, experts, layers: (tokens[0] as number[][]).length, groups: tokens.flatMap((layers) => layers.map((chosen, l) => chosen.map((e) => experts * l + e))) };
}
