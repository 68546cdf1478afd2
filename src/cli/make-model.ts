import { Argument, Command } from "commander";
import { existsSync, statSync } from "node:fs";
import { check } from "../errors.js";
import { readHfConfig } from "../model/families/hf-config.js";
import { publishedConfig, type PublishedShape, publishedShapes } from "../model/families/published.js";
import { isGguf } from "../model/gguf-file.js";
import { countParameters } from "../model/parameter-specs.js";
import { type RandomType, writeRandomGguf } from "../model/random-gguf.js";
import { randomTypes } from "../quant/random-blocks.js";
import { formatBytes } from "../train/log/format.js";
import { describeCommand, parseNumber, typeOption } from "./flags.js";
import { counted, grouped, type Io, onInterrupt, printJson } from "./io.js";

interface MakeModelFlags {
  json?: boolean;
  type: Lowercase<RandomType>;
  out: string;
  layers?: number;
  seed: number;
}

export function makeModelCommand(io: Io): Command {
  return describeCommand(new Command("make-model"), "Writes a GGUF file in the shape of a published model, with random weights: to measure speed and memory without a download.", [
    "switchyard make-model qwen3-30b-a3b --out qwen3.gguf # 17 GB",
    "switchyard make-model olmoe-1b-7b --type q8_0 --layers 4 --out olmoe-4.gguf",
  ])
    .addArgument(new Argument("<shape>", "a published model").choices(Object.keys(publishedShapes)))
    .requiredOption("--out <file>", "the .gguf file to write")
    .addOption(typeOption("type of the matrices; routers and norms are f32", randomTypes, "q4_0"))
    .option("--layers <n>", "layers (default: as published)", parseNumber)
    .option("--seed <n>", "seed of the weights", parseNumber, 1)
    .action((shape: PublishedShape, flags: MakeModelFlags) => makeModelAction(io, shape, flags));
}

async function makeModelAction(io: Io, shape: PublishedShape, { type, out, layers, seed, json }: MakeModelFlags): Promise<void> {
  check(isGguf(out), "ERR_SWITCHYARD_USAGE", () => `make-model: --out: expected the name of a .gguf file, got ${out}`);
  check(!existsSync(out), "ERR_SWITCHYARD_USAGE", () => `make-model: ${out} exists; name another file, or move it away`);
  check(layers === undefined || (Number.isInteger(layers) && layers >= 1), "ERR_SWITCHYARD_USAGE", () => `make-model: --layers: expected an integer of at least 1, got ${layers}`);
  using interrupt = onInterrupt(io);
  const start = performance.now();
  const { config, family } = readHfConfig(publishedConfig(shape, layers), `make-model: ${shape}`);
  await writeRandomGguf(out, config, type.toUpperCase() as RandomType, seed, interrupt.signal);
  const result = { out, shape, modelType: family.modelType, type, parameters: countParameters(config).total, bytes: statSync(out).size, seconds: (performance.now() - start) / 1000 };
  if (json === true) printJson(io, result);
  else io.stdout.write(`${out}: ${shape} with ${counted(config.layers, "layer")}, ${grouped(result.parameters)} random parameters, ${formatBytes(result.bytes)}, ${result.seconds.toFixed(1)} s\n`);
}
