import { afterEach, expect, it, vi } from "vitest";
import { Model } from "../generate/model.js";
import { Trainer } from "../train/trainer.js";
import { trainOptions } from "../train/options.js";

afterEach(() => void vi.restoreAllMocks());

const memory = (message: RegExp) => expect.objectContaining({ code: "ERR_SWITCHYARD_MEMORY", message: expect.stringMatching(message) });
const small = () => Model.create({ vocab: 256, layers: 2, width: 64, heads: 4, context: 64, moe: false, seed: 1 });

it("a model that no machine has the memory for is refused before any of it is allocated", () => {
  expect(() => Model.create({ vocab: 256, layers: 1000, width: 32_768, heads: 64, context: 64, moe: false, seed: 1 })).toThrow(memory(/takes \d+\.\d GiB of memory, and this process may take \d+\.\d GiB; make it smaller/));
});

it("a container's limit counts, and what training takes beside the weights", () => {
  using model = small();
  const bytes = 4 * model.parameters.list.reduce((sum, { tensor }) => sum + tensor.size, 0);
  vi.spyOn(process, "constrainedMemory").mockReturnValue(3 * bytes);
  small()[Symbol.dispose]();
  expect(() => new Trainer(model, trainOptions({ steps: 1, batch: 1, learningRate: 1e-3 }))).toThrow(memory(/weights, gradients and two moments/));
  vi.spyOn(process, "constrainedMemory").mockReturnValue(bytes - 1);
  expect(small).toThrow(memory(/parameters/));
});
