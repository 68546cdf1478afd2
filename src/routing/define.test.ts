import { expect, test } from "vitest";
import { Tape } from "../autograd/tape.js";
import { Arena } from "../engine/arena.js";
import { ReferenceEngine } from "../engine/reference.js";
import { comparedScores, defineRouter, gatherColumns, linear, mean, route, routerConfig, type RouterInput, type RouterResult, routingSummary, softmax, tokenRecords, topK, unary } from "./index.js";

const engine = new ReferenceEngine({ float: "f64" });
const arena = new Arena(engine, 2 ** 20);

function input(): RouterInput {
  arena.reset();
  const tape = new Tape(engine, arena, { training: true });
  const wave = (n: number, phase: number) => Array.from({ length: n }, (_, i) => Math.sin(1.3 * i + phase));
  return { tape, x: tape.constant([3, 5], wave(15, 0)), parameters: { weight: tape.constant([4, 5], wave(20, 1)) }, k: 2 };
}

/** Mixtral's router, written by a user. */
const own = ({ tape, x, parameters, k }: RouterInput) => {
  const logits = linear(tape, x, parameters.weight);
  const experts = topK(tape, logits, k);
  return { logits, experts, weights: softmax(tape, gatherColumns(tape, logits, experts)) };
};

test("a user's router gets what it leaves out: the decision equals the built-in one", () => {
  const expected = route(routerConfig("mixtral"), input());
  const { load } = expected;
  const [experts, weights, scores] = [expected.experts, expected.weights, expected.scores].map((t) => Array.from(engine.read(t))) as [number[], number[], number[]];
  const routing = defineRouter("mine", own)(input());
  expect(Array.from(engine.read(routing.experts))).toEqual(experts);
  engine.read(routing.weights).forEach((w, i) => expect(w).toBeCloseTo(weights[i]!, 12));
  engine.read(routing.scores).forEach((s, i) => expect(s).toBeCloseTo(scores[i]!, 12));
  expect(routing).toMatchObject({ load, dropped: 0, fullyDropped: 0, losses: {}, raw: {} });
});

test("scores alone give logits; empty slots are counted; losses are kept", () => {
  const routing = defineRouter("sparse", ({ tape, x, parameters }) => {
    const scores = unary(tape, "sigmoid", linear(tape, x, parameters.weight));
    const experts = tape.constant([3, 2], [1, -1, -1, -1, 3, 1], "i32");
    return { scores, experts, weights: gatherColumns(tape, scores, experts), losses: { mine: mean(tape, scores) } };
  })(input());
  const [logits, scores] = [engine.read(routing.logits), engine.read(routing.scores)];
  logits.forEach((l, i) => expect(Math.exp(l)).toBeCloseTo(scores[i]!, 12));
  expect(routing).toMatchObject({ load: Int32Array.of(0, 2, 0, 1), dropped: 0, fullyDropped: 1 });
  expect(Object.keys(routing.losses)).toEqual(["mine"]);
});

test.each<[string, string, RegExp, (result: ReturnType<typeof own>, i: RouterInput) => object]>([
  ["nothing to weigh by", "CONFIG", /expected logits or scores/, ({ experts, weights }) => ({ experts, weights })],
  ["no experts", "CONFIG", /expected experts and weights in its result, got logits, weights/, ({ logits, weights }) => ({ logits, weights })],
  ["logits of another shape", "SHAPE", /expected logits \[3, 4\]/, (r, { x }) => ({ ...r, logits: x })],
  ["float experts", "DTYPE", /expected i32 experts/, (r) => ({ ...r, experts: r.weights })],
  ["experts of other tokens", "SHAPE", /expected experts \[3, k\]/, (r, { tape }) => ({ ...r, experts: tape.constant([2, 2], [0, 1, 2, 3], "i32") })],
  ["integer weights", "DTYPE", /expected f64 weights/, (r) => ({ ...r, weights: r.experts })],
  ["weights of another shape", "SHAPE", /one weight per expert/, (r) => ({ ...r, weights: r.logits })],
  ["an expert that does not exist", "CONFIG", /experts from 0 to 3 \(-1: none\), got 4/, (r, { tape }) => ({ ...r, experts: tape.constant([3, 2], [0, 1, 2, 4, 0, 1], "i32") })],
  ["a negative expert", "CONFIG", /got -2/, (r, { tape }) => ({ ...r, experts: tape.constant([3, 2], [0, 1, 2, -2, 0, 1], "i32") })],
  ["a loss per token", "SHAPE", /the loss "mine" to be one element/, (r) => ({ ...r, losses: { mine: r.weights } })],
  ["a load that does not add up", "CONFIG", /must leave the 6/, (r) => ({ ...r, load: Int32Array.of(1, 1, 1, 1) })],
])("refused: %s", (_, code, message, spoil) => {
  const router = defineRouter("mine", (i) => spoil(own(i), i) as RouterResult);
  const thrown = expect.objectContaining({ code: `ERR_SWITCHYARD_${code}`, message: expect.stringMatching(message) as string }) as Error;
  expect(() => router(input())).toThrow(thrown);
  expect(() => router(input())).toThrow(/^router "mine": /);
});

test("logits in the place of columns are refused by their type", () => {
  const router = defineRouter("mine", (i) => ({ ...own(i), weights: gatherColumns(i.tape, i.x, i.x) }));
  expect(() => router(input())).toThrow(expect.objectContaining({ code: "ERR_SWITCHYARD_DTYPE", message: expect.stringContaining("gatherColumns: expected i32 columns") as string }) as Error);
});

test("a router that returns nothing is told so", () => {
  const router = defineRouter("mine", () => undefined as unknown as RouterResult);
  expect(() => router(input())).toThrow(/^router "mine": expected experts and weights in its result, got undefined/);
});

test("defineRouter refuses what is no name or no function", () => {
  expect(() => defineRouter("", own)).toThrow(/expected a name/);
  expect(() => defineRouter("mine", undefined as unknown as typeof own)).toThrow(/expected a function .* got undefined/);
});

test("summary and token records: entropy, margin with the selection bias, z", () => {
  const i = input();
  const { tape } = i;
  const p = [0.4, 0.3, 0.2, 0.1, 0.7, 0.1, 0.1, 0.1];
  const logits = p.map((x) => Math.log(2 * x));
  const x = tape.constant([2, 4], logits);
  const weight = tape.constant([4, 4], Array.from({ length: 16 }, (_, n) => (n % 5 === 0 ? 1 : 0)));
  const config = routerConfig("olmoe", { selectionBias: true });
  const routing = route(config, { tape, x, parameters: { weight, selectionBias: tape.constant([4], [0, 0, 0, 0.25]) }, k: 2 });
  const entropy = [0, 1].map((t) => -p.slice(4 * t, 4 * t + 4).reduce((sum, q) => sum + q * Math.log(q), 0));
  // With the bias: 0.4, 0.35, 0.3, 0.2 and 0.7, 0.35, 0.1, 0.1.
  const summary = routingSummary(engine, routing);
  expect(summary.token_entropy).toBeCloseTo((entropy[0]! + entropy[1]!) / 2, 12);
  expect(summary.topk_margin).toBeCloseTo((0.05 + 0.25) / 2, 12);
  expect(summary.router_z).toBeCloseTo(Math.log(2) ** 2, 12);
  const records = tokenRecords(engine.read(routing.scores), comparedScores(engine, routing.choice!, routing.selectionBias), 4, 2);
  [0.05, 0.25].forEach((m, t) => expect(records.margin[t]).toBeCloseTo(m, 12));
  entropy.forEach((h, t) => expect(records.entropy[t]).toBeCloseTo(h, 12));
  const dense = route(routerConfig("olmoe", { selection: "dense", balance: { method: "none" } }), { tape, x, parameters: { weight }, k: 2 });
  expect(routingSummary(engine, dense)).toEqual({ ...summary, topk_margin: Number.NaN });
});
