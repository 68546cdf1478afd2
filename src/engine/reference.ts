import type { Engine } from "./engine.js";
import * as attention from "./reference/attention.js";
import * as elementwise from "./reference/elementwise.js";
import * as glu from "./reference/glu.js";
import * as matrix from "./reference/matrix.js";
import { lightningIndexer } from "./reference/indexer.js";
import { ReferenceMemory } from "./reference/memory.js";
import * as mixers from "./reference/mixers.js";
import * as norm from "./reference/norm.js";
import * as optimizer from "./reference/optimizer.js";
import * as random from "./reference/random.js";
import { repack } from "./reference/repack.js";
import * as rope from "./reference/rope.js";
import * as routing from "./reference/routing.js";
import * as transformer from "./reference/transformer.js";

/**
 * Every op in plain TypeScript: the specification that native kernels are tested against, and the fallback
 * where there is no compiler. Sums are taken in f64 and rounded when stored. On one thread.
 */
export class ReferenceEngine extends ReferenceMemory implements Engine {
  readonly name = "reference";
  readonly float: "f32" | "f64";
  readonly isa = "typescript";
  readonly source = "built in";

  constructor(options: { float?: "f32" | "f64" } = {}) {
    super();
    this.float = options.float ?? "f32";
  }

  get threads(): number {
    return 1;
  }

  /** Has no effect: this engine runs on the calling thread alone. */
  set threads(_: number) {}

  readonly repack = repack;

  readonly matmul = matrix.matmul;
  readonly matmuls = matrix.matmuls;
  readonly groupedMatmul = matrix.groupedMatmul;

  readonly rmsNorm = norm.rmsNorm;
  readonly rmsNormBackward = norm.rmsNormBackward;
  readonly layerNorm = norm.layerNorm;
  readonly layerNormBackward = norm.layerNormBackward;
  readonly rope = rope.rope;
  readonly attention = attention.attention;
  readonly attentionBackward = attention.attentionBackward;
  readonly glu = glu.glu;
  readonly gluBackward = glu.gluBackward;
  readonly gatherRows = transformer.gatherRows;
  readonly scatterAddRows = transformer.scatterAddRows;
  readonly crossEntropy = transformer.crossEntropy;
  readonly crossEntropyBackward = transformer.crossEntropyBackward;

  readonly causalConv = mixers.causalConv;
  readonly linearAttention = mixers.linearAttention;
  readonly deltaDecays = mixers.deltaDecays;
  readonly selectiveScan = mixers.selectiveScan;
  readonly lightningIndexer = lightningIndexer;

  readonly topK = routing.topK;
  readonly gatherColumns = routing.gatherColumns;
  readonly scatterColumns = routing.scatterColumns;
  readonly sortByExpert = routing.sortByExpert;
  readonly combineRows = routing.combineRows;

  readonly unary = elementwise.unary;
  readonly unaryBackward = elementwise.unaryBackward;
  readonly binary = elementwise.binary;
  readonly scale = elementwise.scale;
  readonly sum = elementwise.sum;
  readonly softmax = elementwise.softmax;
  readonly softmaxBackward = elementwise.softmaxBackward;
  readonly logSumExp = elementwise.logSumExp;
  readonly logSumExpBackward = elementwise.logSumExpBackward;
  readonly dropout = random.dropout;
  readonly uniform = random.uniform;
  readonly normal = random.normal;

  readonly adamW = optimizer.adamW;
  readonly sumSquares = optimizer.sumSquares;
}
