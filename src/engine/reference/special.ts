import type { Activation, UnaryFn } from "../engine.js";

const sqrtHalf = Math.SQRT1_2;
const sqrt2OverPi = Math.sqrt(2 / Math.PI);
const tanhCubic = 0.044715;
const quickGelu = 1.702;

function sigmoid(x: number): number {
  return x >= 0 ? 1 / (1 + Math.exp(-x)) : Math.exp(x) / (1 + Math.exp(x));
}

/** Complementary error function to about 1e-15 (Abramowitz and Stegun 7.1.6 and 7.1.14). */
export function erfc(x: number): number {
  const z = Math.abs(x);
  let tail: number;
  if (!(z > 2)) {
    let term = z;
    let sum = z;
    for (let n = 1; term > sum * 1e-17; n++) {
      term *= (2 * z * z) / (2 * n + 1);
      sum += term;
    }
    tail = 1 - (2 / Math.sqrt(Math.PI)) * Math.exp(-z * z) * sum;
  } else {
    let fraction = z;
    for (let n = 60; n > 0; n--) fraction = z + n / 2 / fraction;
    tail = Math.exp(-z * z) / Math.sqrt(Math.PI) / fraction;
  }
  return x < 0 ? 2 - tail : tail;
}

/** Distribution function of the standard normal. */
function normalCdf(x: number): number {
  return erfc(-x * sqrtHalf) / 2;
}

function normalDensity(x: number): number {
  return Math.exp((-x * x) / 2) / Math.sqrt(2 * Math.PI);
}

interface Differentiable {
  value: (x: number) => number;
  slope: (x: number) => number;
}

function tanhGelu(x: number): number {
  return Math.tanh(sqrt2OverPi * (x + tanhCubic * x * x * x));
}

export const activations: Readonly<Record<Activation, Differentiable>> = {
  silu: {
    value: (x) => x * sigmoid(x),
    slope: (x) => sigmoid(x) * (1 + x * sigmoid(-x)),
  },
  gelu: {
    value: (x) => x * normalCdf(x),
    slope: (x) => normalCdf(x) + x * normalDensity(x),
  },
  "gelu-tanh": {
    value: (x) => 0.5 * x * (1 + tanhGelu(x)),
    slope: (x) => 0.5 * (1 + tanhGelu(x)) + 0.5 * x * (1 - tanhGelu(x) ** 2) * sqrt2OverPi * (1 + 3 * tanhCubic * x * x),
  },
  "quick-gelu": {
    value: (x) => x * sigmoid(quickGelu * x),
    slope: (x) => sigmoid(quickGelu * x) * (1 + quickGelu * x * sigmoid(-quickGelu * x)),
  },
  relu: {
    value: (x) => Math.max(x, 0),
    slope: (x) => (x > 0 ? 1 : 0),
  },
  relu2: {
    value: (x) => Math.max(x, 0) ** 2,
    slope: (x) => 2 * Math.max(x, 0),
  },
};

export const unaryFns: Readonly<Record<UnaryFn, Differentiable>> = {
  neg: { value: (x) => -x, slope: () => -1 },
  exp: { value: Math.exp, slope: Math.exp },
  log: { value: Math.log, slope: (x) => 1 / x },
  sqrt: { value: Math.sqrt, slope: (x) => 0.5 / Math.max(Math.sqrt(x), 1e-19) }, // finite: what it multiplies may be 0
  square: { value: (x) => x * x, slope: (x) => 2 * x },
  sigmoid: { value: sigmoid, slope: (x) => sigmoid(x) * sigmoid(-x) },
  tanh: { value: Math.tanh, slope: (x) => 1 - Math.tanh(x) ** 2 },
  softplus: { value: (x) => Math.max(x, 0) + Math.log1p(Math.exp(-Math.abs(x))), slope: sigmoid },
  relu: activations.relu,
  "normal-cdf": { value: normalCdf, slope: normalDensity },
};
