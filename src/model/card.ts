import { describeRouter } from "../routing/describe.js";
import type { ModelConfig } from "./config.js";
import type { Architecture } from "./families/family.js";
import { countParameters } from "./parameter-specs.js";

/** README.md of a saved model. */
export function modelCard(config: ModelConfig, { modelType, architecture }: Architecture): string {
  const { total, active } = countParameters(config);
  const rows = [
    ["architecture", `${architecture} (\`${modelType}\`)`],
    ["parameters", `${total.toLocaleString("en")} in all, ${active.toLocaleString("en")} active per token`],
    ["layers", `${config.layers}, of which sparse: ${config.sparseLayers.length}`],
    ["width", `${config.width}, ${config.heads} heads of ${config.headDim}`],
    ["context", `${config.context} tokens`],
    ["vocabulary", `${config.vocab}`],
    ...(config.moe === undefined ? [] : [["router", describeRouter(config.moe.router, config.moe)]]),
  ];
  return `---
library_name: transformers
pipeline_tag: text-generation
tags: [switchyard${config.moe === undefined ? "" : ", moe"}]
---
# A language model trained with Switchyard

| | |
|---|---|
${rows.map(([name, value]) => `| ${name} | ${value} |`).join("\n")}

Run it with \`switchyard generate FOLDER "prompt"\`.
`;
}
