import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { StopMatcher } from "./stop.js";

const run = (stops: string[], pieces: string[]) => {
  const matcher = new StopMatcher(stops);
  const out = pieces.map((piece) => matcher.push(piece));
  return [...out, matcher.end()];
};

describe("stop sequences", () => {
  it.each<[string, string[], string[], string[]]>([
    ["within a piece", ["END"], ["one END two"], ["one ", ""]],
    ["across three pieces", ["END"], ["one E", "N", "D two", "three"], ["one ", "", "", "", ""]],
    ["begun, but not completed", ["END"], ["one E", "NO", " two"], ["one ", "ENO", " two", ""]],
    ["begun at the end of the text", ["END"], ["one EN"], ["one ", "EN"]],
    ["that begins again within itself", ["aab"], ["aa", "ab!"], ["", "a", ""]],
    ["of which the first completed wins", ["abcd", "bc"], ["abcd"], ["a", ""]],
    ["of which the longer wins when both are completed together", ["bc", "abc"], ["xabc"], ["x", ""]],
    ["none", [], ["a", "b"], ["a", "b", ""]],
  ])("%s", (_, stops, pieces, out) => {
    expect(run(stops, pieces)).toEqual(out);
  });

  it("give the same text however it is cut, and never a stop sequence", () => {
    const letters = fc.string({ unit: fc.constantFrom("a", "b", "c"), minLength: 1, maxLength: 4 });
    fc.assert(
      fc.property(fc.array(letters, { maxLength: 3 }), fc.array(letters, { maxLength: 12 }), (stops, pieces) => {
        const text = pieces.join("");
        const ends = stops.flatMap((stop) => (text.includes(stop) ? [text.indexOf(stop) + stop.length] : []));
        const end = Math.min(...ends);
        const length = ends.length === 0 ? text.length : end - Math.max(...stops.filter((stop) => text.slice(0, end).endsWith(stop)).map((stop) => stop.length));
        expect(run(stops, pieces).join("")).toBe(text.slice(0, length));
        expect(run(stops, [...text]).join("")).toBe(text.slice(0, length));
      }),
    );
  });
});
