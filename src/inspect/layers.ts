import type { ModelConfig } from "../model/config.js";
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

/** "attention, window 4096" */
function describeMixer(mixer: ModelConfig["mixers"][number]): string {
  const notes = mixer.kind === "attention" && mixer.rope === undefined ? ["no positions"] : [];
  return [mixer.kind, ...notes].join(", ");
}
