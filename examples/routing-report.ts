/**
 * Which experts take which kinds of character? Trains a small model on a text and counts where the tokens of its end are sent.
 *   routing-report [FILE] [STEPS]
 */
import { readFileSync } from "node:fs";
import { byteTokenizer, Model, train } from "switchyard";

const [file = "LICENSE", steps = "300"] = process.argv.slice(2);
const kinds = { space: /\s/, vowel: /[aeiou]/i, consonant: /[a-z]/i, digit: /\d/, other: /[^]/ };
const kindOf = (text: string) => Object.entries(kinds).find(([, pattern]) => pattern.test(text))?.[0] ?? "other";

const tokenizer = byteTokenizer();
using model = Model.create({ size: "xs", vocab: tokenizer.vocabSize, context: 64, moe: { experts: 8, active: 2 }, seed: 1, tokenizer });
for await (const { index, loss } of train(model, { data: file, steps: Number(steps), batch: 8, learningRate: 3e-3, seed: 1, evalEvery: 0 })) {
  if (index === Number(steps)) console.log(`loss ${loss.toFixed(3)} after ${index} steps`);
}

// Choices by layer, then kind, then expert. `trace` gives the prompt's routing with the first token generated.
const counts = new Map<number, Map<string, number[]>>();
const text = readFileSync(file, "utf8").slice(-1260);
for (let start = 0; start < text.length; start += 60) {
  for await (const { routing = [] } of model.generate(text.slice(start, start + 60), { maxTokens: 1, trace: true })) {
    for (const token of routing) {
      for (const { layer, experts } of token.layers) {
        const byKind = counts.get(layer) ?? new Map<string, number[]>();
        const row = byKind.get(kindOf(token.text)) ?? new Array<number>(8).fill(0);
        for (const e of experts) row[e] = (row[e] ?? 0) + 1;
        counts.set(layer, byKind.set(kindOf(token.text), row));
      }
    }
  }
}

for (const [layer, byKind] of counts) {
  console.log(`layer ${layer}: % of a kind's choices per expert`);
  const share = (row: number[]) => row.map((n) => Math.round((100 * n) / row.reduce((a, b) => a + b)));
  console.table(Object.fromEntries([...byKind].map(([kind, row]) => [kind, share(row)])));
}
