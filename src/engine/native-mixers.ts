import type { Tensor } from "../tensor/tensor.js";
import type { IndexerDims, LinearAttentionDims, MixerOps, SelectiveScan } from "./mixer-ops.js";
import { address } from "./native-memory.js";
import { NativeProducts } from "./native-products.js";

/** The sequence mixers of the native engine. */
export class NativeMixers extends NativeProducts implements MixerOps {
  causalConv(out: Tensor, state: Tensor, x: Tensor, weight: Tensor, bias: Tensor | undefined): void {
    const [batch = 0, past = 0, channels = 0] = state.shape;
    this.addon.causalConv(this.variant, address(out), address(state), address(x), address(weight), address(bias), batch, x.rows / batch || 0, channels, past + 1);
  }

  linearAttention(out: Tensor, state: Tensor, qkv: Tensor, decay: Tensor, beta: Tensor | undefined, dims: LinearAttentionDims): void {
    const { heads, keyHeads, keyDim, valueDim, scale, normEps } = dims;
    const [batch = 0] = state.shape;
    this.addon.linearAttention(
      this.variant, address(out), address(state), address(qkv), address(decay), address(beta), batch, qkv.rows / batch || 0,
      heads, keyHeads, keyDim, valueDim, scale, Number(normEps !== undefined), normEps ?? 0, Number(decay.size !== heads),
    );
  }

  deltaDecays(out: Tensor, state: Tensor, step: Tensor, bias: Tensor, logRate: Tensor, chunk: number): void {
    const [batch = 0, , heads = 0] = state.shape;
    this.addon.deltaDecays(this.variant, address(out), address(state), address(step), address(bias), address(logRate), batch, step.rows / batch || 0, heads, chunk);
  }

  selectiveScan(out: Tensor, state: Tensor, x: Tensor, { delta, a, b, c, d }: SelectiveScan): void {
    const [batch = 0, states = 0, channels = 0] = state.shape;
    this.addon.selectiveScan(
      this.variant, address(out), address(state), address(x), address(delta), address(a), address(b), address(c), address(d),
      batch, x.rows / batch || 0, channels, states,
    );
  }

  lightningIndexer(bias: Tensor, q: Tensor, k: Tensor, weights: Tensor, dims: IndexerDims): void {
    const { batch, queries, keys, keyStride, heads, headDim, topK } = dims;
    this.addon.lightningIndexer(
      this.variant, address(bias), address(q), address(k), address(weights), batch, queries, keys, keyStride, heads, headDim, topK,
    );
  }
}
