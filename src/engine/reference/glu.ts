import type { Tensor } from "../../tensor/tensor.js";
import type { GluOptions } from "../engine.js";
import { floats, groupOffsets } from "./arrays.js";
import { activations } from "./special.js";

/** One element of the hidden row: what the activation and the product get, and whether a clamp cut them off. */
interface Hidden {
  gate: number;
  up: number;
  gateClamped: boolean;
  upClamped: boolean;
}

interface HiddenRow {
  n: number;
  /** Factors of the row of x and of the row of out: one of them is the row's scale. */
  scaleIn: number;
  scaleOut: number;
  /** The hidden element in column f. */
  at: (f: number) => Hidden;
}

/** Calls `visit` for every row that exists. `F`: columns of out. */
function eachRow(op: string, x: Tensor, F: number, options: GluOptions, visit: (row: HiddenRow) => void): void {
  const { gated, rowScale, rowScaleOn, offsets, bias, limit = Infinity, upOffset = 0 } = options;
  const X = floats(x);
  const scale_N = rowScale && floats(rowScale);
  const B = bias && floats(bias);
  const offsets_E = offsets === undefined ? [0, x.rows] : Array.from(groupOffsets(op, offsets, x.rows));
  const rows = offsets_E.at(-1) ?? 0;
  let group = 0;
  for (let n = 0; n < rows; n++) {
    while (n >= (offsets_E[group + 1] ?? rows)) group++;
    const scale = scale_N === undefined ? 1 : scale_N[n];
    const [scaleIn, scaleOut] = rowScaleOn === "input" ? [scale, 1] : [1, scale];
    const input = (column: number) => X[n * x.cols + column] * scaleIn + (B === undefined ? 0 : B[group * x.cols + column]);
    const at = (f: number): Hidden => {
      const gate = input(f);
      const up = gated ? input(F + f) : 1;
      return {
        gate: Math.min(gate, limit),
        up: gated ? Math.max(-limit, Math.min(up, limit)) + upOffset : 1,
        gateClamped: gate > limit,
        upClamped: Math.abs(up) > limit,
      };
    };
    visit({ n, scaleIn, scaleOut, at });
  }
}

export function glu(out: Tensor, x: Tensor, options: GluOptions): void {
  const O = floats(out);
  const F = out.cols;
  const { value } = activations[options.activation];
  eachRow("glu", x, F, options, ({ n, scaleOut, at }) => {
    for (let f = 0; f < F; f++) {
      const { gate, up } = at(f);
      O[n * F + f] = value(gate) * up * scaleOut;
    }
  });
}

export function gluBackward(dx: Tensor, drowScale: Tensor | undefined, dout: Tensor, x: Tensor, options: GluOptions): void {
  const DX = floats(dx);
  const G = floats(dout);
  const X = floats(x);
  const dscale_N = drowScale && floats(drowScale);
  const F = dout.cols;
  const { value, slope } = activations[options.activation];
  eachRow("gluBackward", x, F, options, ({ n, scaleIn, scaleOut, at }) => {
    let dscale = 0;
    for (let f = 0; f < F; f++) {
      const { gate, up, gateClamped, upClamped } = at(f);
      const act = value(gate);
      const g = G[n * F + f];
      const atGate = n * x.cols + f;
      const dgate = gateClamped ? 0 : g * scaleOut * up * slope(gate);
      const dup = !options.gated || upClamped ? 0 : g * scaleOut * act;
      dscale += options.rowScaleOn === "input" ? dgate * X[atGate] + (options.gated ? dup * X[atGate + F] : 0) : g * act * up;
      DX[atGate] = dgate * scaleIn;
      if (options.gated) DX[atGate + F] = dup * scaleIn;
    }
    if (dscale_N !== undefined) dscale_N[n] = dscale;
  });
}
