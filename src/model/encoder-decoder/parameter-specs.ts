import type { ParameterGroup, ParameterSpec } from "../parameter-specs.js";
import { type EncoderDecoderConfig, isSparse, stackNames } from "./config.js";

/** Every parameter, in the order of the forward pass: "embedding", "encoder.layers.3.attention.q", ... Initial values as in Mesh TensorFlow's T5; norms are ones. */
export function encoderDecoderSpecs(config: EncoderDecoderConfig): ParameterSpec[] {
  const { vocab, width: D, heads, headDim, hidden: F, distanceBuckets, moe, tiedEmbeddings } = config;
  const HD = heads * headDim;
  const specs: ParameterSpec[] = [];
  const push = (name: string, shape: readonly number[], std: number, group: ParameterGroup = "dense") => specs.push({ name, shape, group, init: std > 0 ? { std } : { constant: 1 }, trainable: true });
  const attention = (at: string) => {
    push(`${at}.norm`, [D], 0);
    push(`${at}.q`, [HD, D], (D * headDim) ** -0.5);
    for (const name of ["k", "v"]) push(`${at}.${name}`, [HD, D], D ** -0.5);
    push(`${at}.out`, [D, HD], HD ** -0.5);
  };
  if (tiedEmbeddings) push("embedding", [vocab, D], 1);
  for (const stack of stackNames) {
    if (!tiedEmbeddings) push(`${stack}.embedding`, [vocab, D], 1);
    push(`${stack}.positions`, [distanceBuckets, heads], D ** -0.5);
    for (let l = 0; l < config[stack].layers; l++) {
      const at = `${stack}.layers.${l}`;
      attention(`${at}.attention`);
      if (stack === "decoder") attention(`${at}.cross`);
      push(`${at}.ffn.norm`, [D], 0);
      if (isSparse(config[stack], l)) {
        push(`${at}.router.weight`, [moe.experts, D], D ** -0.5, "router");
        if (moe.router.bias) push(`${at}.router.bias`, [moe.experts], D ** -0.5, "router");
        push(`${at}.experts.up`, [moe.experts, moe.hidden, D], D ** -0.5, "expert");
        push(`${at}.experts.down`, [moe.experts, D, moe.hidden], moe.hidden ** -0.5, "expert");
      } else {
        push(`${at}.ffn.up`, [F, D], D ** -0.5);
        push(`${at}.ffn.down`, [D, F], F ** -0.5);
      }
    }
    push(`${stack}.norm`, [D], 0);
  }
  if (!tiedEmbeddings) push("head", [vocab, D], D ** -0.5);
  return specs;
}
