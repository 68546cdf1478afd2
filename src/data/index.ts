export { BatchSampler, evaluationWindows, type TokenBatch } from "./batches.js";
export { loadTokens, readTexts, splitTokens, type Tokens } from "./tokens.js";
