import { isDeepStrictEqual } from "node:util";
import { Tape } from "../autograd/tape.js";
import { Arena } from "../engine/arena.js";
import { check } from "../errors.js";
import { checkOptions, checkPath, show } from "../options.js";
import type { Routing } from "../routing/types.js";
import { compareRouting, relativeError, type RoutingComparison } from "./compare.js";
import { type Golden, type GoldenLayer, readGolden } from "./golden.js";
import { openModel } from "./open.js";
import { type LayerName, type Subject, subjectOf } from "./subject.js";

/** How far a model is from its golden; null where the golden does not say. */
export interface Verification {
  /** Every number below within the tolerance, every expert and every greedy token the same. */
  pass: boolean;
  logits: { relativeError: number | null };
  routing: { layers: LayerComparison[] };
  greedy: { match: boolean | null };
  tolerance: number;
  /** Each sparse block alone, given the golden's input: errors of its router's logits and of its output. */
  blocks: { layer: LayerName; routerError: number | null; relativeError: number | null }[];
}

interface LayerComparison extends RoutingComparison {
  layer: LayerName;
}

/** What f32 costs, with room; recurrent layers carry their errors from token to token. */
export const defaultTolerances = { usual: 1e-5, recurrent: 5e-5 };

/** Those, or twice what the reference itself loses in f32, which is more where a model amplifies rounding. */
function defaultTolerance({ recurrent }: Subject, { f32Error = 0 }: Golden): number {
  return Math.max(recurrent ? defaultTolerances.recurrent : defaultTolerances.usual, 2 * f32Error);
}

/**
 * Runs a model folder or a GGUF file on the inputs of a golden, a folder or the .json of a pair (docs/guide/verify.md), and compares logits, every
 * layer's routing, each sparse block alone, and the greedy continuation. `tolerance`: largest error, relative to the largest value; default 1e-5, more
 * for recurrent models and where the golden says so. Throws ERR_SWITCHYARD_USAGE for a tolerance below 0, ERR_SWITCHYARD_FORMAT where the golden is of
 * another model (vocabulary, layers, number of experts), ERR_SWITCHYARD_CHECKPOINT where it is missing, and as `Model.load`.
 */
export async function verify(checkpoint: string, golden: string, options: { tolerance?: number | undefined } = {}): Promise<Verification> {
  checkOptions("verify", options, { tolerance: true });
  const { tolerance } = options;
  check(tolerance === undefined || (typeof tolerance === "number" && tolerance >= 0), "ERR_SWITCHYARD_USAGE", () => `verify: tolerance: expected a number of at least 0, got ${show(tolerance)}`);
  checkPath("verify: the model", checkpoint);
  checkPath("verify: the golden", golden);
  const wanted = readGolden(golden);
  using model = await openModel(checkpoint);
  return await verifySubject(subjectOf(model), wanted, tolerance);
}

/** `verify` of a model that is open. */
export async function verifySubject(model: Subject, golden: Golden, tolerance = defaultTolerance(model, golden)): Promise<Verification> {
  checkFits(model, golden);
  using arena = new Arena(model.engine);
  const { logitsError, layers } = compareForward(model, golden, arena);
  const blocks = golden.layers.filter(({ moe_input: input }) => input !== undefined).map((layer) => compareBlock(model, golden, layer, arena));
  const match = golden.greedy === undefined ? null : isDeepStrictEqual(await model.greedy(golden.greedy.prompt, golden.greedy.ids.length), golden.greedy.ids);
  const close = (error: number | null) => error === null || error <= tolerance;
  const pass =
    close(logitsError) &&
    layers.every(({ agreement, weightError }) => agreement === 1 && close(weightError)) &&
    blocks.every(({ routerError, relativeError: error }) => close(routerError) && close(error)) &&
    match !== false;
  return { pass, logits: { relativeError: logitsError }, routing: { layers }, greedy: { match }, tolerance, blocks };
}

function checkFits({ vocab, context, sparseLayers, moe, width, decoderStart }: Subject, { source, ids, decoderIds, logits: wanted, layers, greedy }: Golden): void {
  const require = (condition: boolean, message: () => string) => check(condition, "ERR_SWITCHYARD_FORMAT", () => `${source}: ${message()}; is it the golden of this checkpoint?`);
  require((decoderIds === undefined) === (decoderStart === undefined), () => (decoderStart === undefined ? "decoder_input_ids are for encoder-decoder models, and the model is none" : "expected decoder_input_ids, as the model is an encoder-decoder"));
  const unknown = [...ids, ...(decoderIds ?? []), greedy?.prompt ?? []].flat().find((id) => id >= vocab);
  require(unknown === undefined, () => `token id ${unknown} is outside the model's vocabulary of ${vocab}`);
  const longest = Math.max(ids[0]?.length ?? 0, (greedy?.prompt.length ?? 0) + (greedy?.ids.length ?? 0));
  require(longest <= context, () => `sequences of ${longest} tokens are longer than the model's context of ${context}`);
  require(wanted === undefined || wanted.shape.at(-1) === vocab, () => `tensor "logits": its vocabulary has ${wanted?.shape.at(-1)} tokens, the model's ${vocab}`);
  for (const { layer, router_logits: scores, experts, moe_input: input, moe_output: output } of layers) {
    require(sparseLayers.includes(layer), () => `layer ${layer} is not among the model's sparse layers (${sparseLayers.join(", ") || "none"})`);
    const tooLarge = experts?.values.find((e) => e >= (moe?.experts ?? 0));
    require(tooLarge === undefined && (scores?.shape.at(-1) ?? moe?.experts) === moe?.experts, () => `layer ${layer} has other experts than the model's ${moe?.experts}`);
    const other = [input, output].find((tensor) => tensor !== undefined && tensor.shape.at(-1) !== width)?.shape.at(-1);
    require(other === undefined, () => `layer ${layer}: its block has width ${other}, the model ${width}`);
  }
}

/** Logits and routing of all sequences at once. */
function compareForward(model: Subject, golden: Golden, arena: Arena): { logitsError: number | null; layers: LayerComparison[] } {
  const { engine } = model;
  arena.reset();
  const { logits, routings } = model.forward(new Tape(engine, arena, { precision: "f32" }), golden);
  const logitsError = golden.logits === undefined ? null : relativeError(engine.read(logits), golden.logits.values);
  const layers = golden.layers.flatMap(({ layer, experts, weights, dropped }) => {
    if (experts === undefined) return [];
    const { experts: mine, weights: myWeights } = routings.get(layer) as Routing;
    const got = { experts: engine.read(mine), weights: engine.read(myWeights), k: mine.cols };
    const want = { experts: experts.values, weights: weights?.values, k: experts.shape.at(-1) as number, dropped: dropped?.values };
    return [{ layer, ...compareRouting(got, want, mine.rows) }];
  });
  return { logitsError, layers };
}

/** One sparse block on the golden's input to it, so that no error of the layers before it is in the way. */
function compareBlock(model: Subject, golden: Golden, { layer, moe_input: input, moe_output: output, router_logits: scores }: GoldenLayer, arena: Arena): Verification["blocks"][number] {
  const { engine, width } = model;
  arena.reset();
  const tape = new Tape(engine, arena, { precision: "f32" });
  const values = input?.values ?? [];
  const { outs, routing } = model.block(tape, layer, tape.constant([values.length / width, width], values), golden);
  return {
    layer,
    routerError: scores === undefined ? null : relativeError(engine.read(routing.logits), scores.values),
    relativeError: output === undefined ? null : Math.min(...outs.map((out) => relativeError(engine.read(out), output.values))),
  };
}
