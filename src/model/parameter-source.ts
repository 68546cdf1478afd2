import type { ParameterSource, StoredRows, StoredStack } from "./mapped.js";
import { repacked } from "./repacked.js";

/** As `ParameterSource`, of a tensor that holds a parameter or a part of it. */
export interface PieceSource extends Pick<ParameterSource, "read" | "repacked"> {
  rows: StoredRows | undefined;
  stack?: StoredStack | undefined;
  type: string;
}

/** Where a parameter comes from that has these pieces. */
export function parameterSource(pieces: readonly PieceSource[]): ParameterSource {
  const stored = pieces.map((piece) => piece.rows);
  const rows = stored.every((part) => part !== undefined) ? stored : [];
  const stacks = pieces.map(({ stack }) => stack);
  const isReordered = rows.some(({ columns }) => columns !== undefined);
  return {
    read: (engine, target) => pieces.forEach(({ read }) => read(engine, target)),
    rows: rows.length === 0 || isReordered ? undefined : rows,
    reordered: isReordered && rows.length === 1 ? rows[0] : undefined,
    apart: stacks.every((stack) => stack !== undefined) ? stacks : undefined,
    repacked: repacked(pieces.map((piece) => piece.repacked)),
    types: pieces.map(({ type }) => type),
  };
}
