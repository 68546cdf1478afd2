import { parseArgs } from "node:util";
import { loadEngine } from "../../src/engine/load.js";
import type { NativeEngine } from "../../src/engine/native.js";
import { type Machine, machine } from "../bench.js";
import { openblasAvailable } from "../peers/openblas/openblas.js";

/** What benchmarks of matrix products are told: [--precision f32|bf16] [--rounds 5] [--no-peer]. */
export function productBench(args: string[]): { precision: "f32" | "bf16"; rounds: number; engine: NativeEngine; about: Machine; peer: boolean } {
  const options = { precision: { type: "string", default: "f32" }, rounds: { type: "string", default: "5" }, "no-peer": { type: "boolean", default: false } } as const;
  const { values } = parseArgs({ args, options });
  const engine = loadEngine({ engine: "native" }) as NativeEngine;
  return { precision: values.precision as "f32" | "bf16", rounds: Number(values.rounds), engine, about: machine(engine), peer: !values["no-peer"] && openblasAvailable() };
}
