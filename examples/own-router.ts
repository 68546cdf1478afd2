/**
 * A router of one's own beside the usual one: experts chosen by the cosine between token and expert, so that no expert wins by
 * the length of its vector alone (Chi et al. 2022, arXiv 2204.09179).
 *   own-router [FILE] [STEPS]
 */
import { byteTokenizer, Model, train } from "switchyard";
import { auxiliaryLoss, countExperts, defineRouter, div, gatherColumns, linear, scale, softmax, sum, topK, unary } from "switchyard/routing";

const [file = "LICENSE", steps = "300"] = process.argv.slice(2);
const temperature = 0.1;
const balance = 0.01;

const cosine = defineRouter("cosine", ({ tape, x, parameters, k }) => {
  const unit = (rows: typeof x) => div(tape, rows, unary(tape, "sqrt", sum(tape, unary(tape, "square", rows), "rows")));
  const logits = scale(tape, linear(tape, unit(x), unit(parameters.weight)), 1 / temperature);
  const scores = softmax(tape, logits);
  const experts = topK(tape, scores, k);
  const { load } = countExperts(tape.engine.read(experts), k, scores.cols);
  const losses = { balance: scale(tape, auxiliaryLoss(tape, scores, load), balance) };
  return { logits, scores, experts, weights: softmax(tape, gatherColumns(tape, logits, experts)), losses };
});

const tokenizer = byteTokenizer();
for (const [name, router] of [["softmax over dot products", undefined], ["softmax over cosines", cosine]] as const) {
  using model = Model.create({ size: "xs", vocab: tokenizer.vocabSize, context: 64, moe: { experts: 8, active: 2 }, seed: 1, tokenizer });
  model.router = router;
  for await (const { index, crossEntropy, routing } of train(model, { data: file, steps: Number(steps), batch: 8, learningRate: 3e-3, seed: 1, evalEvery: 0 })) {
    if (index === Number(steps)) console.log(`${name}: loss ${crossEntropy.toFixed(3)}, busiest expert ${(100 * routing.maxLoad).toFixed(0)} % of a layer's choices`);
  }
}
