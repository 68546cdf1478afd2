import { describeRouter } from "../routing/describe.js";
import { type AnyConfig, isEncoderDecoder, isSparse, stackNames } from "./encoder-decoder/config.js";
import { ownFamily } from "./families/own.js";
import type { FamilyName } from "./families/publication.js";
import { countParameters } from "./parameter-specs.js";

/** README.md of a saved model. */
export function modelCard(config: AnyConfig, { modelType, architecture }: FamilyName): string {
  const { total, active } = countParameters(config);
  const rows = [
    ["architecture", `${architecture} (\`${modelType}\`)`],
    ["parameters", `${total.toLocaleString("en")} in all, ${active.toLocaleString("en")} active per token`],
    ...layerRows(config),
    ["width", `${config.width}, ${config.heads} heads of ${config.headDim}`],
    ["vocabulary", `${config.vocab}`],
    ...(config.moe === undefined ? [] : [["router", describeRouter(config.moe.router, config.moe)]]),
  ];
  const [task, use] = isEncoderDecoder(config) ? ["text2text-generation", "Load it with `EncoderDecoderModel.load(FOLDER)`."] : ["text-generation", 'Run it with `npx switchyard generate FOLDER "prompt"`.'];
  return `---
library_name: ${modelType === ownFamily.modelType ? modelType : "transformers"}
pipeline_tag: ${task}
tags: [switchyard${config.moe === undefined ? "" : ", moe"}]
---
# A language model trained with Switchyard

| | |
|---|---|
${rows.map(([name, value]) => `| ${name} | ${value} |`).join("\n")}

${use}
`;
}

function layerRows(config: AnyConfig): string[][] {
  if (!isEncoderDecoder(config)) return [["layers", `${config.layers}, of which sparse: ${config.sparseLayers.length}`], ["context", `${config.context} tokens`]];
  return stackNames.map((stack) => {
    const sparse = Array.from({ length: config[stack].layers }, (_, l) => l).filter((l) => isSparse(config[stack], l));
    return [`${stack} layers`, `${config[stack].layers}, of which sparse: ${sparse.length}`];
  });
}
