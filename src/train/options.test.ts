import { expect, test } from "vitest";
import { trainOptions } from "./options.js";

const given = { batch: 1, learningRate: 0.01 };

test.each([
  [2000, { warmup: 100, decay: 400 }, { evalEvery: 200, checkpointEvery: 400 }],
  [101, { warmup: 6, decay: 20 }, { evalEvery: 11, checkpointEvery: 21 }],
  [1, { warmup: 1, decay: 0 }, { evalEvery: 10, checkpointEvery: 1 }],
])("of %d steps a twentieth is warm-up and a fifth decay, to a tenth of the rate", (steps, { warmup, decay }, rest) => {
  expect(trainOptions({ ...given, steps })).toMatchObject({ schedule: { kind: "cosine", warmup, steps, floor: expect.closeTo(0.1, 15) }, ...rest });
  expect(trainOptions({ ...given, steps, schedule: "wsd" }).schedule).toEqual({ kind: "wsd", warmup, steps, decay, floor: expect.closeTo(0.1, 15) });
  expect(trainOptions({ ...given, steps, schedule: "constant" }).schedule).toEqual({ kind: "constant", warmup });
});

test("what is given takes the place of what would be chosen, zeros too", () => {
  const zeros = { warmup: 0, decaySteps: 0, minLearningRate: 0, evalEvery: 0, checkpointEvery: 0 };
  expect(trainOptions({ ...given, ...zeros, steps: 100, schedule: "wsd" })).toMatchObject({ schedule: { warmup: 0, decay: 0, floor: 0 }, evalEvery: 0, checkpointEvery: 0 });
});
