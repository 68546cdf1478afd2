export { BatchSampler, type BatchOptions, evaluationWindows, type SamplerOptions, type SamplerState, type TokenBatch } from "./batches.js";
export { loadTokens, readText, readTexts, splitTokens, textFiles, type Tokens } from "./tokens.js";
