import type { ParameterSource, StoredRows } from "./mapped.js";
import { repacked } from "./repacked.js";

/** As `ParameterSource`, of a tensor that holds a parameter or a part of it. */
export interface PieceSource extends Pick<ParameterSource, "read" | "repacked"> {
  rows: StoredRows | undefined;
  type: string;
}

/** Where a parameter comes from that has these pieces. */
export function parameterSource(pieces: readonly PieceSource[]): ParameterSource {
  const rows = pieces.map((piece) => piece.rows);
  return {
    read: (engine, target) => pieces.forEach(({ read }) => read(engine, target)),
    rows: rows.every((part) => part !== undefined) ? rows : undefined,
    repacked: repacked(pieces.map((piece) => piece.repacked)),
    types: pieces.map(({ type }) => type),
  };
}
