/** What a byte of TypeScript belongs to. */
export const kinds = ["space", "comment", "string", "number", "keyword", "Type", "name", "bracket", "other"] as const;
export type Kind = (typeof kinds)[number];

const keywords = new Set(
  ("abstract any as asserts async await bigint boolean break case catch class const constructor continue debugger declare default delete do else enum " +
    "export extends false finally for from function get if implements import in infer instanceof interface is keyof let module namespace never new null " +
    "number object of override private protected public readonly require return satisfies set static string super switch symbol this throw true try type " +
    "typeof undefined unique unknown using var void while with yield").split(" "),
);

const lexeme =
  /(?<comment>\/\/[^\n]*|\/\*[\s\S]*?(?:\*\/|$))|(?<string>"(?:\\.|[^"\\\n])*"?|'(?:\\.|[^'\\\n])*'?|`(?:\\.|[^`\\])*`?)|(?<number>\d[\w.]*)|(?<word>[A-Za-z_$][\w$]*)|(?<space>\s+)|(?<bracket>[()[\]{}<>])|[\s\S]/g;

/** The kind of every byte of a text in UTF-8, as indices into `kinds`. Approximate where only a compiler could tell. */
export function classifyBytes(text: string): Uint8Array {
  const out = new Uint8Array(Buffer.byteLength(text));
  let at = 0;
  for (const match of text.matchAll(lexeme)) {
    const end = at + Buffer.byteLength(match[0]);
    out.fill(kinds.indexOf(kindOf(match)), at, end);
    at = end;
  }
  return out;
}

function kindOf({ groups = {} }: RegExpMatchArray): Kind {
  const { word } = groups;
  if (word !== undefined) return keywords.has(word) ? "keyword" : /^[A-Z]/.test(word) ? "Type" : "name";
  return (["comment", "string", "number", "space", "bracket"] as const).find((kind) => groups[kind] !== undefined) ?? "other";
}
