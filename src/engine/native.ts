import { type Addon, NativeCore } from "./native-core.js";

/** The native engine: every op is one call into the addon. */
export class NativeEngine extends NativeCore<Addon> {}
