import type { MixerConfig, ModelConfig } from "../model/config.js";
import { type EncoderDecoderConfig, isSparse, stackNames } from "../model/encoder-decoder/config.js";
import type { MoeConfig, SharedExpert } from "../moe/layer.js";
import { describeRouter } from "../routing/describe.js";
import type { LayerName } from "./subject.js";

export type LayerDescription =
  | { layer: LayerName; mixer: string; kind: "dense"; hidden: number }
  | { layer: LayerName; mixer: string; kind: "sparse"; experts: number; active: number; hidden: number; shared: SharedExpert | null; router: string };

export function describeLayers(config: ModelConfig): LayerDescription[] {
  const { moe, sparseLayers, mixers, hidden } = config;
  return mixers.map((mixer, layer) => (moe !== undefined && sparseLayers.includes(layer) ? sparse(layer, describeMixer(mixer), moe) : { layer, mixer: describeMixer(mixer), kind: "dense", hidden }));
}

export function describeStacks(config: EncoderDecoderConfig): LayerDescription[] {
  const { moe, hidden, expertCapacity } = config;
  const capacity = `; each expert takes at most ${expertCapacity} tokens of a sequence, the others pass by`;
  return stackNames.flatMap((stack) =>
    Array.from({ length: config[stack].layers }, (_, l): LayerDescription => {
      const [layer, mixer] = [`${stack}.${l}`, stack === "encoder" ? "attention" : "attention, cross-attention"];
      if (!isSparse(config[stack], l)) return { layer, mixer, kind: "dense", hidden };
      const description = sparse(layer, mixer, moe);
      return { ...description, router: `${description.router}${capacity}` };
    }),
  );
}

function sparse(layer: LayerName, mixer: string, { experts, active, hidden, shared, router }: MoeConfig): Extract<LayerDescription, { kind: "sparse" }> {
  return { layer, mixer, kind: "sparse", experts, active, hidden, shared: shared ?? null, router: describeRouter(router, { experts, active }) };
}

const mixers: Readonly<Record<MixerConfig["kind"], string>> = {
  attention: "attention",
  latent: "latent attention",
  deltaNet: "gated DeltaNet",
  lightning: "lightning attention",
  mamba: "Mamba",
  shortConv: "short convolution",
};

/** "attention, window 4096" */
function describeMixer(mixer: MixerConfig): string {
  const words = [mixers[mixer.kind]];
  if (mixer.kind === "attention" && mixer.window !== undefined) words.push(`window ${mixer.window}`);
  if (mixer.kind === "attention" && mixer.chunk !== undefined) words.push(`chunks of ${mixer.chunk}`);
  if (mixer.kind === "attention" && mixer.rope === undefined) words.push("no positions");
  return words.join(", ");
}
