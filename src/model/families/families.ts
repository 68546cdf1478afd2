import { classicFamilies } from "./classic.js";
import type { Family } from "./family.js";
import { latentFamilies } from "./latent.js";
import { logitFamilies } from "./logits.js";
import { mixerFamilies } from "./mixers.js";
import { sigmoidFamilies } from "./sigmoid.js";
import { softmaxFamilies } from "./softmax.js";

/** Every published family; a new model is saved as the first one that can be written and expresses it exactly. */
export const families: readonly Family[] = [...classicFamilies, ...latentFamilies, ...sigmoidFamilies, ...softmaxFamilies, ...logitFamilies, ...mixerFamilies];
