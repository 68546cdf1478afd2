import { Tape } from "../autograd/tape.js";
import { Arena } from "../engine/arena.js";
import type { LanguageModel } from "../model/language-model.js";
import { forward, logits } from "../model/transformer.js";
import { crossEntropy, sum } from "../ops/index.js";
import { loadStatistics, type LoadStatistics } from "../routing/statistics.js";
import { checkAborted } from "../errors.js";
import type { Batch } from "./trainer.js";

export interface Evaluation {
  /** Mean cross-entropy per token in nats, without routing losses. */
  loss: number;
  perplexity: number;
  tokens: number;
  /** Per sparse layer, over all tokens. */
  routing: (LoadStatistics & { layer: number })[];
}

/** Loss and routing over all of `batches`, noise and dropout off, capacities those of evaluation. Throws ERR_SWITCHYARD_ABORTED. */
export async function evaluate(model: LanguageModel, batches: Iterable<Batch>, signal?: AbortSignal): Promise<Evaluation> {
  const { engine, config } = model;
  using arena = new Arena(engine);
  let total = 0;
  let tokens = 0;
  const counts = config.sparseLayers.map(() => ({ load: new Int32Array(config.moe?.experts ?? 0), tokens: 0, dropped: 0, fullyDropped: 0 }));
  for (const { inputs, targets, batch } of batches) {
    checkAborted(signal, "evaluate");
    arena.reset();
    const tape = new Tape(engine, arena);
    const { hidden, routings } = forward(tape, model, { ids: tape.constant([inputs.length], inputs, "i32"), batch });
    const losses = crossEntropy(tape, logits(tape, model, hidden), tape.constant([targets.length], targets, "i32"));
    total += engine.read(sum(tape, losses, "all"))[0] as number;
    tokens += targets.length;
    routings.forEach(({ load, dropped, fullyDropped }, i) => {
      const count = counts[i] as (typeof counts)[number];
      load.forEach((n, e) => (count.load[e] = (count.load[e] as number) + n));
      count.tokens += inputs.length;
      count.dropped += dropped;
      count.fullyDropped += fullyDropped;
    });
    await new Promise(setImmediate); // signals and timers have their turn
  }
  const loss = total / tokens;
  return { loss, perplexity: Math.exp(loss), tokens, routing: counts.map((count, i) => ({ layer: config.sparseLayers[i] as number, ...loadStatistics(count) })) };
}
