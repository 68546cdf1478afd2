import { Command } from "commander";
import { existsSync } from "node:fs";
import { loadEngine } from "../engine/load.js";
import { check } from "../errors.js";
import { checkPath } from "../options.js";
import { countParameters } from "../model/parameter-specs.js";
import { readModel } from "../model/read.js";
import { StagedWeights } from "../model/staged.js";
import { type FileType, fileTypes } from "../model/stored-types.js";
import { weightFiles, writeModel } from "../model/write.js";
import { formatBytes } from "../train/log/format.js";
import { describeCommand, typeOption } from "./flags.js";
import { grouped, type Io, noteWritten, onInterrupt, printJson } from "./io.js";

interface ConvertFlags {
  json?: boolean;
  type: Lowercase<FileType>;
}

export function convertCommand(io: Io): Command {
  return describeCommand(new Command("convert"), "Writes a model in another format: a folder in Hugging Face's layout, or a GGUF file. F32 loses nothing.", [
    "switchyard convert runs/first first.gguf",
    "switchyard convert OLMoE-1B-7B olmoe-q8.gguf --type q8_0 # routers and norms stay f32",
    "switchyard convert model-Q4_K_M.gguf model-f32 # whatever it was quantised to",
    "switchyard convert OLMoE-1B-7B olmoe-bf16 --type bf16 # a folder, half as large",
  ])
    .argument("<source>", "folder of a model, or a .gguf file (of a split one, the first)")
    .argument("<target>", "what to write: a name with .gguf is a file, any other a folder")
    .addOption(typeOption("type of the matrices", fileTypes, "f32"))
    .action((source: string, target: string, flags: ConvertFlags) => convertAction(io, source, target, flags));
}

async function convertAction(io: Io, source: string, target: string, { type, json }: ConvertFlags): Promise<void> {
  checkPath("convert: the source", source);
  check(existsSync(source), "ERR_SWITCHYARD_CHECKPOINT", () => `convert: ${source} does not exist; name the folder of a model, or a .gguf file`);
  checkPath("convert: the target", target);
  check(!existsSync(target), "ERR_SWITCHYARD_USAGE", () => `convert: ${target} exists; name another target, or move it away`);
  using interrupt = onInterrupt(io);
  const start = performance.now();
  const { config, family, sources, tokenizer } = await readModel(source);
  using weights = new StagedWeights(loadEngine(), config, sources);
  const { tokenizer: withTokenizer, architecture } = await writeModel(target, config, weights, tokenizer, { type: type.toUpperCase() as FileType, signal: interrupt.signal });
  const result = { source, target, modelType: family.modelType, type, parameters: countParameters(config).total, ...weightFiles(target), tokenizer: withTokenizer, architecture, seconds: (performance.now() - start) / 1000 };
  if (json === true) printJson(io, result);
  else io.stdout.write(`${target}: ${family.modelType}, ${grouped(result.parameters)} parameters in ${result.tensors} tensors, ${formatBytes(result.bytes)}, ${result.seconds.toFixed(1)} s\n`);
  noteWritten(io, result);
}
