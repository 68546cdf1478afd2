import type { ModelConfig } from "./config.js";
import type { Family } from "./families/family.js";
import { countParameters } from "./parameters.js";

/** The router in words. */
export function describeRouter({ router, experts, active }: NonNullable<ModelConfig["moe"]>): string {
  const weights = {
    score: `${router.score} scores${router.normalize === undefined ? ", not renormalised" : ", renormalised over the chosen"}`,
    softmax: "softmax over the chosen logits",
    sigmoid: "sigmoid of the chosen logits",
  }[router.weight];
  const groups = router.groups === undefined ? "" : `, the best ${router.groups.keep} of ${router.groups.count} groups by ${router.groups.score}`;
  const bias = router.selectionBias ? ", with a bias for the choice only" : "";
  const scale = router.scale === 1 ? "" : `, times ${router.scale}`;
  return `${router.selection}, ${active} of ${experts} experts${groups}${bias}; weights: ${weights}${scale}`;
}

/** README.md of a saved model. */
export function modelCard(config: ModelConfig, { modelType, architecture }: Family): string {
  const { total, active } = countParameters(config);
  const rows = [
    ["architecture", `${architecture} (\`${modelType}\`)`],
    ["parameters", `${total.toLocaleString("en")} in all, ${active.toLocaleString("en")} active per token`],
    ["layers", `${config.layers}, of which sparse: ${config.sparseLayers.length}`],
    ["width", `${config.width}, ${config.heads} heads of ${config.headDim}`],
    ["context", `${config.context} tokens`],
    ["vocabulary", `${config.vocab}`],
    ...(config.moe === undefined ? [] : [["router", describeRouter(config.moe)]]),
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
