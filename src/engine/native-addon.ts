import type { TypedArray } from "../tensor/dtype.js";
import type { MixerOps } from "./mixer-ops.js";
import type { ReadsAddon } from "./native-reads.js";

/** An op of the addon: addresses, dimensions and flags, all numbers; throws ERR_SWITCHYARD_ENGINE when one does not hold. Those that compute take the index of a kernel variant first. */
type NativeOp = (...args: number[]) => void;

type OpName =
  | "advise" | "copy" | "fill" | "repack" | "narrow" | "matmul" | "matmuls" | "attention" | "attentionBackward" | keyof MixerOps
  | "norm" | "normBackward" | "rope" | "glu" | "gluBackward" | "gatherRows" | "scatterAddRows" | "combineRows" | "crossEntropy"
  | "crossEntropyBackward" | "topK" | "gatherColumns" | "scatterColumns" | "sortByExpert" | "unary" | "unaryBackward" | "binary" | "scale"
  | "sum" | "softmax" | "softmaxBackward" | "logSumExp" | "logSumExpBackward" | "dropout" | "uniform" | "normal" | "adamW";

/** Of the ops below as they are declared here; the addon's own number stands in native/binding/module.cpp, and a test says when to raise both. */
export const addonVersion = 2;

/** Everything that the addon exports: native/binding/. */
export interface NativeAddon extends ReadsAddon, Record<OpName, NativeOp> {
  version(): number;
  /** Names of the ops that a list (command-list.ts) can hold, in the order of their numbers. */
  commands(): string[];
  /** Another thread may run so much of the list: native/binding/commands.cpp. */
  start(list: Float64Array, length: number): void;
  /** 0, or the number of the op at which it stopped. */
  run(list: Float64Array, length: number): number;
  /** The one op that stops a list: native/binding/demand.cpp. Its last argument is the number. */
  demand(...args: number[]): number | undefined;
  /** Kernel variants by index; null for one that this machine cannot run. */
  isas(): (string | null)[];
  /** Sets the number of threads unless n is 0; returns it. One pool serves every engine of the process. */
  threads(n: number): number;
  /** 0: there is no memory left. */
  allocate(bytes: number): number;
  /** A number: the system's error. */
  mapFile(path: string): { address: number; bytes: number } | number;
  release(address: number): void;
  /** Whether a mapped file has become shorter since it was mapped. */
  fileWasCut(): boolean;
  read(out: TypedArray, address: number): void;
  write(address: number, values: TypedArray): void;
  /** May also take a list of addresses, one per expert. */
  groupedMatmul: (...args: (number | Float64Array)[]) => void;
  sumSquares: (...args: number[]) => number;
  /** Operations per second of multiply-adds in registers, on all threads; of: 0 f32, 1 bf16, 2 int8. */
  peak(isa: number, iterations: number, of: number): number;
  /** Bytes per second of all threads reading memory once. */
  readBandwidth(address: number, bytes: number): number;
}
