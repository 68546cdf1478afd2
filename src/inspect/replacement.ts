import { Popularity } from "../model/residency/popularity.js";

/**
 * What goes when there is no room: the least recently or least frequently used; the least popular with this half-life in tokens, as the cache
 * of experts has it; or, as only someone can who knows the future, what is not needed for the longest time (Belady 1966).
 */
export type Replacement = "least recent" | "least frequent" | "clairvoyant" | { halfLife: number };

/**
 * The part of all uses that find a thing in one of `slots` places. The things of a group are used at a time, and stay until all of them have
 * been; `perToken` groups make up a token.
 */
export function hitRate(groups: readonly (readonly number[])[], slots: number, policy: Replacement, perToken: number): number {
  const rankOf = ranking(groups, policy, perToken);
  const held = new Set<number>();
  let [uses, hits] = [0, 0];
  for (const [i, group] of groups.entries()) {
    const missing = group.filter((thing) => !held.has(thing));
    uses += group.length;
    hits += group.length - missing.length;
    const rank = rankOf(i);
    for (const thing of missing) {
      if (held.size >= slots) held.delete(leastOf(held, new Set(group), rank));
      held.add(thing);
    }
  }
  return hits / uses;
}

function leastOf(held: ReadonlySet<number>, group: ReadonlySet<number>, rank: (thing: number) => number): number {
  let [least, lowest] = [-1, Infinity];
  for (const thing of held) {
    const r = rank(thing);
    if (!group.has(thing) && (least < 0 || r < lowest)) [least, lowest] = [thing, r];
  }
  return least;
}

/** Ranks of things at each group, after its uses have been counted. */
function ranking(groups: readonly (readonly number[])[], policy: Replacement, perToken: number): (i: number) => (thing: number) => number {
  const ranks = new Map<number, number>();
  if (policy === "clairvoyant") {
    const next = nextUses(groups);
    return (i) => {
      groups[i]?.forEach((thing, j) => ranks.set(thing, -(next[i]?.[j] as number)));
      return (thing) => ranks.get(thing) as number;
    };
  }
  if (typeof policy === "object") {
    const popularity = new Popularity(1 + groups.reduce((most, group) => Math.max(most, ...group), 0), policy.halfLife);
    return (i) => {
      for (const thing of groups[i] as number[]) popularity.use(thing, Math.floor(i / perToken));
      return (thing) => popularity.rank(thing);
    };
  }
  return (i) => {
    for (const thing of groups[i] as number[]) ranks.set(thing, policy === "least recent" ? i : (ranks.get(thing) ?? 0) + 1);
    return (thing) => ranks.get(thing) as number;
  };
}

/** Per use the group that needs the thing again. */
function nextUses(groups: readonly (readonly number[])[]): number[][] {
  const next = new Map<number, number>();
  const uses = groups.map((): number[] => []);
  for (let i = groups.length - 1; i >= 0; i--) {
    uses[i] = (groups[i] as number[]).map((thing) => next.get(thing) ?? Infinity);
    for (const thing of groups[i] as number[]) next.set(thing, i);
  }
  return uses;
}
