export { BatchSampler, evaluationWindows, type TokenBatch } from "./batches.js";
export { loadTokens, readText, readTexts, splitTokens, type Tokens } from "./tokens.js";
