import { existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, it } from "vitest";
import { Tape } from "../src/autograd/tape.js";
import { Arena } from "../src/engine/arena.js";
import { ReferenceEngine } from "../src/engine/reference.js";
import { openCheckpointTensors, readAsF32 } from "../src/formats/checkpoint.js";
import { readSafetensorsHeader } from "../src/formats/safetensors.js";
import { relativeError } from "../src/inspect/compare.js";
import { EncoderDecoderModel } from "../src/model/encoder-decoder/model.js";
import type { Routing } from "../src/routing/types.js";
import { engines } from "./op-maker.js";

/** A tiny Switch Transformer with the outputs of transformers in float64. */
const folder = new URL("../../shared/goldens/switch", import.meta.url).pathname;
const absent = !existsSync(folder);
const temporary = mkdtempSync(join(tmpdir(), "switchyard-switch-"));
afterAll(() => rmSync(temporary, { recursive: true, force: true }));

function elements(file: string): Map<string, number[]> {
  const values = (name: string) => {
    const { dtype, begin, end } = readSafetensorsHeader(file).tensors.get(name)!;
    const bytes = readFileSync(file).subarray(begin, end);
    return dtype === "I64" ? Array.from(new BigInt64Array(new Uint8Array(bytes).buffer), Number) : Array.from(new Float64Array(new Uint8Array(bytes).buffer));
  };
  return new Map([...readSafetensorsHeader(file).tensors.keys()].map((name) => [name, values(name)]));
}

interface Golden {
  input_ids: number[][];
  decoder_input_ids: number[][];
  greedy_prompt_ids: number[];
  greedy_ids: number[];
}

const all = [new ReferenceEngine({ float: "f64" }), ...engines];

describe.skipIf(absent).each(all.map((engine) => [`${engine.name} ${engine.isa} ${engine.float}`, engine] as const))("Switch Transformer on %s (needs ../shared/goldens)", (_, engine) => {
  const golden = () => JSON.parse(readFileSync(join(folder, "golden.json"), "utf8")) as Golden;
  const forwardOf = (model: EncoderDecoderModel) => {
    const tape = new Tape(engine, new Arena(engine));
    const { input_ids: source, decoder_input_ids: target } = golden();
    const i32 = (ids: number[][]) => tape.constant([ids.flat().length], ids.flat(), "i32");
    return model.forward(tape, i32(source), i32(target), source.length);
  };

  it("logits, experts and weights", async () => {
    using model = await EncoderDecoderModel.load(folder, { engine });
    const want = elements(join(folder, "golden.safetensors"));
    const { logits, encoder, decoder } = forwardOf(model);
    const tolerance = 1e-5;
    expect(relativeError(engine.read(logits), want.get("logits")!)).toBeLessThan(tolerance);
    const layer = (name: string, routing: Routing) => {
      expect(relativeError(engine.read(routing.logits), want.get(`${name}.router_logits`)!), name).toBeLessThan(tolerance);
      expect(Array.from(engine.read(routing.experts)), name).toEqual(want.get(`${name}.experts`)!);
      expect(relativeError(engine.read(routing.weights), want.get(`${name}.weights`)!), name).toBeLessThan(tolerance);
      expect(routing.dropped, name).toBe(want.get(`${name}.dropped`)!.filter((d) => d === 1).length);
    };
    expect([encoder.length, decoder.length]).toEqual([2, 2]);
    for (const [i, l] of [1, 3].entries()) {
      layer(`encoder.${l}`, encoder[i]!);
      layer(`decoder.${l}`, decoder[i]!);
    }
  });

  it("greedy generation", async () => {
    using model = await EncoderDecoderModel.load(folder, { engine });
    const { greedy_prompt_ids: source, greedy_ids: want } = golden();
    expect([...model.generate(source, { maxTokens: want.length })]).toEqual(want);
  });

  it("saves the same tensors under the same names", async () => {
    using model = await EncoderDecoderModel.load(folder, { engine });
    const copy = join(temporary, `${engine.isa}-${engine.float}`);
    await model.save(copy);
    const [saved, published] = [openCheckpointTensors(copy), openCheckpointTensors(folder)];
    expect([...saved.keys()].sort()).toEqual([...published.keys()].sort());
    for (const [name, tensor] of published) expect([...readAsF32(saved.get(name)!)], name).toEqual([...readAsF32(tensor)]);
  });
});
