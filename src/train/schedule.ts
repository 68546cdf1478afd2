import { check } from "../errors.js";

/** A learning-rate schedule. Lengths are in optimiser steps; `floor` is a fraction of the peak rate. */
export type Schedule =
  | { kind: "constant"; warmup: number }
  /** Half a cosine from the end of the warm-up to step `steps` (Loshchilov and Hutter 2017). */
  | { kind: "cosine"; warmup: number; steps: number; floor: number }
  /** Warm-up, stable, decay (Hu et al. 2024): the peak rate until the last `decay` of `steps`, then down to the floor in a straight line. */
  | { kind: "wsd"; warmup: number; steps: number; decay: number; floor: number };

/** Throws ERR_SWITCHYARD_CONFIG unless the lengths fit into each other. */
export function checkSchedule(schedule: Schedule): void {
  const { kind, warmup } = schedule;
  check(Number.isInteger(warmup) && warmup >= 0, "ERR_SWITCHYARD_CONFIG", () => `schedule: warmup must be an integer of at least 0, got ${warmup}`);
  if (kind === "constant") return;
  const { steps, floor } = schedule;
  check(floor >= 0 && floor <= 1, "ERR_SWITCHYARD_CONFIG", () => `schedule: floor is a fraction of the peak rate, from 0 to 1, got ${floor}`);
  const decay = kind === "wsd" ? schedule.decay : 0;
  check(Number.isInteger(decay) && decay >= 0, "ERR_SWITCHYARD_CONFIG", () => `schedule: decay must be an integer of at least 0, got ${decay}`);
  check(
    Number.isInteger(steps) && warmup + decay <= steps,
    "ERR_SWITCHYARD_CONFIG",
    () => `schedule: ${warmup} steps of warm-up${decay > 0 ? ` and ${decay} of decay` : ""} do not fit into ${steps}; make them fewer or train longer`,
  );
}

/**
 * What the peak learning rate is multiplied with at `step`, counted from 0: (step + 1) / warmup while warming up, so that no
 * step is wasted at rate 0; the floor from step `steps` on.
 */
export function scheduleFactor(step: number, schedule: Schedule): number {
  const { kind, warmup } = schedule;
  if (step < warmup) return (step + 1) / warmup;
  if (kind === "constant") return 1;
  const { steps, floor } = schedule;
  if (step >= steps) return floor;
  return floor + (1 - floor) * (kind === "cosine" ? cosine((step - warmup) / (steps - warmup)) : stableThenDecay(step, schedule));
}

const cosine = (progress: number): number => (1 + Math.cos(Math.PI * progress)) / 2;

function stableThenDecay(step: number, { steps, decay }: Extract<Schedule, { kind: "wsd" }>): number {
  return decay === 0 ? 1 : 1 - Math.max(0, (step - (steps - decay)) / decay);
}
