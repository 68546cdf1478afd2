/**
 * What balancing does: the same model trained without, with the auxiliary loss, and with the loss-free bias.
 *   balance [FILE] [STEPS]
 */
import { byteTokenizer, type MoeOptions, Model, train } from "switchyard";

const [file = "LICENSE", steps = "300"] = process.argv.slice(2);
const methods = {
  "no balancing": { method: "none" },
  "auxiliary loss": { method: "switch", coefficient: 0.01 },
  "loss-free bias": { method: "loss-free", rate: 0.01, update: "sign" },
} satisfies Record<string, MoeOptions["balance"]>;

const tokenizer = byteTokenizer();
for (const [name, balance] of Object.entries(methods)) {
  using model = Model.create({ size: "xs", vocab: tokenizer.vocabSize, context: 64, moe: { experts: 16, active: 2, balance }, seed: 1, tokenizer });
  for await (const { record } of train(model, { data: file, steps: Number(steps), batch: 8, learningRate: 3e-3, seed: 1 })) {
    if (record?.eval === undefined || record.step < Number(steps)) continue;
    const worst = Math.max(...record.moe.map(({ maxvio }) => maxvio));
    const dead = record.moe.reduce((n, layer) => n + layer.dead, 0);
    console.log(`${name}: validation loss ${record.eval.loss.toFixed(3)}, MaxVio ${worst.toFixed(2)} in the worst layer, ${dead} dead experts`);
  }
}
