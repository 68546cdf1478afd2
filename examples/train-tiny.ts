/**
 * Trains a small mixture of experts on a text, saves it, loads it again and lets it write.
 *   train-tiny [FILE] [STEPS] [OUT]
 */
import { byteTokenizer, Model, train } from "switchyard";

const [file = "LICENSE", steps = "300", out = "out/tiny"] = process.argv.slice(2);

const tokenizer = byteTokenizer();
const model = Model.create({ size: "xs", vocab: tokenizer.vocabSize, context: 64, moe: { experts: 8, active: 2 }, seed: 1, tokenizer });
const { total, active } = model.parameterCount;
console.log(`${total} parameters, of which ${active} work on one token`);

for await (const step of train(model, { data: file, steps: Number(steps), batch: 8, learningRate: 3e-3, seed: 1 })) {
  const { index, loss, tokensPerSecond, routing, evaluation } = step;
  if (index % 50 === 0) console.log(`step ${index}: loss ${loss.toFixed(3)}, ${Math.round(tokensPerSecond)} tokens/s, busiest expert ${(100 * routing.maxLoad).toFixed(0)} %`);
  if (evaluation !== undefined) console.log(`step ${index}: validation loss ${evaluation.loss.toFixed(3)}`);
}

await model.save(out);
using copy = await Model.load(out);
let text = "";
for await (const chunk of copy.generate("The ", { maxTokens: 50, temperature: 0 })) text += chunk.text;
console.log(`The ${text}`);
