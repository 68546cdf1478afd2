import { expect, test } from "vitest";
import { Tape } from "../autograd/tape.js";
import { Arena } from "../engine/arena.js";
import { ReferenceEngine } from "../engine/reference.js";
import type { DType } from "../tensor/dtype.js";
import { choosesPerToken } from "./config.js";
import { routerConfig, type RouterPreset, routerPresets } from "./presets.js";
import { checkRouterConfig, route } from "./route.js";
import type { RouterConfig, RouterInput } from "./types.js";

const engine = new ReferenceEngine();
const arena = new Arena(engine, 2 ** 20);

const withOverrides = (overrides: object): RouterConfig => ({ ...routerPresets.mixtral, ...overrides }) as RouterConfig;

test.each<[object, RegExp, number?]>([
  [{}, /k: expected 1 to 8 experts per token, .* got 9/, 9],
  [{}, /k: expected .* got 1.5/, 1.5],
  [{ selection: "best" }, /selection: expected one of top-k, .*, got "best"/],
  [{ score: "relu" }, /score: expected one of softmax/],
  [{ weight: undefined }, /weight: expected one of/],
  [{ bias: "yes" }, /bias and selectionBias: expected true or false/],
  [{ scale: Number.NaN }, /scale: expected a positive number, got NaN/],
  [{ scale: 0 }, /scale/],
  [{ zLoss: -1 }, /zLoss: expected a number of at least 0, got -1/],
  [{ jitter: 1 }, /jitter: expected a number in \[0, 1\), got 1/],
  [{ jitter: Number.NaN }, /jitter/],
  [{ normalize: { eps: -1, p: 1 } }, /normalize.eps/],
  [{ normalize: { eps: 0, p: 0.5 } }, /normalize.p/],
  [{ normalize: { eps: 0, p: 1, least: -1 } }, /normalize.least: expected a number of at least 0, got -1/],
  [{ score: "logits" }, /normalize: raw logits/],
  [{ weight: "sparsemixer" }, /closeness: expected with weight "sparsemixer" only, got undefined/],
  [{ closeness: 0.1 }, /closeness: expected with weight "sparsemixer" only, got 0.1 with "score"/],
  [{ weight: "sparsemixer", closeness: 0.1 }, /score must be logits/],
  [{ groups: { count: 3, keep: 1, score: "max" } }, /groups.count: expected a divisor of the 8 experts, got 3/],
  [{ groups: { count: 4, keep: 5, score: "max" } }, /groups.keep: expected 1 to 4/],
  [{ groups: { count: 8, keep: 1, score: "max" } }, /groups: 1 groups of 1 hold fewer than k = 2/],
  [{ groups: { count: 4, keep: 2, score: "mean" } }, /groups.score/],
  [{ capacity: { train: 0, eval: 1, drop: "position" } }, /capacity.train: expected a positive number, got 0/],
  [{ capacity: { train: 1, eval: Infinity, drop: "position" } }, /capacity.eval/],
  [{ capacity: { train: 1, eval: 1, drop: "random" } }, /capacity.drop: expected one of position, probability, batch-prioritised/],
  [{ selection: "hash", balance: { method: "none" }, selectionBias: true }, /hash does not choose/],
  [{ selection: "dense", balance: { method: "none" }, capacity: { train: 1, eval: 1, drop: "position" } }, /dense gives every expert every token/],
  [{ selection: "expert-choice", balance: { method: "none" }, weight: "softmax" }, /expert-choice gives tokens different numbers/],
  [{ selection: "expert-choice", balance: { method: "none" } }, /normalize.eps must be positive/],
  [{ selection: "hash" }, /balance: hash goes with none, got "switch"/],
  [{ selection: "expert-choice", selectionBias: true, balance: { method: "loss-free", rate: 0.001, update: "sign" } }, /balance: expert-choice goes with none, got "loss-free"/],
  [{ balance: "loss-free" }, /balance: expected an object, as \{ method: "loss-free", \.\.\. \}, got a text/],
  [{ balance: undefined }, /balance: top-k goes with none, switch, .*, got undefined/],
  [{ balance: { method: "switch", coefficient: -0.01 } }, /balance.coefficient: expected a number of at least 0, got -0.01/],
  [{ balance: { method: "loss-free", rate: 0.001, update: "sign" } }, /loss-free needs selectionBias/],
  [{ selectionBias: true, balance: { method: "loss-free", rate: 0, update: "sign" } }, /balance.rate/],
  [{ selectionBias: true, balance: { method: "loss-free", rate: 1, update: "up" } }, /balance.update/],
  [{ balance: { method: "load", coefficient: 1 } }, /load needs more experts than k, got 8 and 8/, 8],
])("refused: %o", (overrides, message, k = 2) => {
  expect(() => checkRouterConfig(withOverrides(overrides), 8, k)).toThrow(expect.objectContaining({ code: "ERR_SWITCHYARD_CONFIG", message: expect.stringMatching(message) as string }) as Error);
});

test("a config that is no object is refused", () => {
  expect(() => checkRouterConfig(undefined as unknown as RouterConfig, 8, 2)).toThrow(/expected an object/);
});

/** A router input with every tensor that the config calls for. */
function inputFor(config: RouterConfig, changes: (tensor: (shape: number[], dtype?: DType) => RouterInput["x"]) => object = () => ({})): RouterInput {
  arena.reset();
  const tape = new Tape(engine, arena, { training: true });
  const tensor = (shape: number[], dtype: DType = "f32") =>
    tape.constant(shape, Array.from({ length: shape.reduce((a, b) => a * b) }, (_, i) => (dtype === "i32" ? i : Math.sin(i))), dtype);
  const parameters = {
    weight: tensor([16, 6]),
    bias: config.bias ? tensor([16]) : undefined,
    noise: config.selection === "noisy-top-k" ? tensor([16, 6]) : undefined,
    selectionBias: config.selectionBias ? tensor([16]) : undefined,
  };
  const { parameters: changed, ...rest } = changes(tensor) as { parameters?: object };
  return { tape, x: tensor([5, 6]), k: 2, tokenIds: tensor([5], "i32"), ...rest, parameters: { ...parameters, ...changed } };
}

test.each(Object.keys(routerPresets) as RouterPreset[])("preset %s is consistent and routes in f32", (name) => {
  const config = routerConfig(name);
  expect(config).toEqual(routerPresets[name]);
  for (const k of [1, 2, 8]) checkRouterConfig(config, 64, k);
  const { experts, weights, load, dropped } = route(config, inputFor(config));
  expect(experts.shape[0]).toBe(5);
  expect(weights.shape).toEqual(experts.shape);
  expect(load.reduce((a, b) => a + b) - dropped).toBe(engine.read(experts).filter((e) => e >= 0).length);
  expect(engine.read(weights).every((w) => w >= 0 && Number.isFinite(w))).toBe(true);
});

test("routerConfig: names, overrides, partial configs, loss-free brings its bias", () => {
  expect(routerConfig()).toEqual(routerPresets.mixtral);
  expect(routerConfig({ scale: 2 })).toEqual({ ...routerPresets.mixtral, scale: 2 });
  expect(routerConfig("olmoe", { balance: { method: "loss-free", rate: 0.001, update: "sign" } }).selectionBias).toBe(true);
  expect(routerConfig("olmoe").selectionBias).toBe(false);
  expect(routerConfig("deepseek-v3", { balance: { method: "none" } }).selectionBias).toBe(true); // published ones have a bias that stays as it is
  expect(() => routerConfig("toString" as RouterPreset)).toThrow(/expected one of softmax-top-k, mixtral, .*got "toString"/);
});

test.each<[string, RouterConfig, Parameters<typeof inputFor>[1], string, RegExp]>([
  ["noise missing", routerConfig("shazeer"), () => ({ parameters: { noise: undefined } }), "CONFIG", /needs noise \[16, 6\]/],
  ["noise unasked for", routerConfig("olmoe"), (t) => ({ parameters: { noise: t([16, 6]) } }), "CONFIG", /has no noise/],
  ["bias of another length", { ...routerConfig("olmoe"), bias: true }, (t) => ({ parameters: { bias: t([15]) } }), "SHAPE", /bias of shape \[16\]/],
  ["selection bias missing", routerConfig("deepseek-v3"), () => ({ parameters: { selectionBias: undefined } }), "CONFIG", /needs selectionBias \[16\]/],
  ["weight of another width", routerConfig("olmoe"), (t) => ({ parameters: { weight: t([16, 7]) } }), "SHAPE", /weight of shape \[16, 6\]/],
  ["token ids missing", routerConfig("olmoe", { selection: "hash", balance: { method: "none" } }), () => ({ tokenIds: undefined }), "CONFIG", /pass tokenIds/],
  ["too few token ids", routerConfig("olmoe", { selection: "hash", balance: { method: "none" } }), (t) => ({ tokenIds: t([4], "i32") }), "SHAPE", /i32\[5\]/],
  ["k above E", routerConfig("olmoe"), () => ({ k: 17 }), "CONFIG", /1 to 16/],
])("route: %s", (_, config, changes, code, message) => {
  expect(() => route(config, inputFor(config, changes))).toThrow(expect.objectContaining({ code: `ERR_SWITCHYARD_${code}`, message: expect.stringMatching(message) as string }) as Error);
});

test("only some selections let each token choose its best experts", () => {
  expect((["top-k", "noisy-top-k", "stochastic", "expert-choice", "dense", "hash"] as const).filter(choosesPerToken)).toEqual(["top-k", "noisy-top-k", "stochastic"]);
});
