// Quantised weights from the blocks of the file to panels that products read in order. A panel holds kChunk steps of k of kPanelColumns rows
// of the weight (columns of the result): four consecutive k of each column side by side as unsigned bytes, kPanelVectors vectors per four k,
// and per 16 or 32 k each column's scale and minimum. Layouts of the blocks: src/engine/reference/blocks.ts.

constexpr int kChunk = 256;
constexpr int kPanelVectors = SW_LANES >= 8 ? 2 : 1;
constexpr int kPanelColumns = kPanelVectors * kLanes;

struct alignas(64) Panel {
  vu q[kChunk / 4][kPanelVectors];
  vf scale[kChunk / 16][kPanelVectors];
  vf minimum[kChunk / 16][kPanelVectors];
};

// What is added to signed bytes where products want unsigned ones.
constexpr int kByteOffset = SW_LANES == 8 ? 0 : 128;

// What products must know of a type: elements with one scale; what to take from the unsigned values; whether there are minima; their largest value.
template <StoredType T>
struct Layout {
  static constexpr bool nonlinear = T == kIq4NL || T == kIq4XS;
  static constexpr int group = T == kQ2K || T == kQ3K || T == kQ6K ? 16 : 32;
  static constexpr int offset = T == kQ4_0 ? 8 : T == kQ5_0 ? 16 : T == kQ8_0 || nonlinear ? kByteOffset : T == kQ3K ? 4 : T == kQ6K ? 32 : T == kMxfp4 ? 12 : 0;
  static constexpr bool minima = T == kQ4_1 || T == kQ5_1 || T == kQ2K || T == kQ4K || T == kQ5K;
  static constexpr int largest = T == kQ8_0 || nonlinear ? 255 : T == kQ6K ? 63 : T == kQ5_0 || T == kQ5_1 || T == kQ5K ? 31 : T == kMxfp4 ? 24 : 15;
};

#include "quant_load.inl"

// Unpacking gives a sink vectors of four consecutive k of each row, of steps of four k, and ends each group of elements with one scale: groups in
// rising order, each after its steps, whose order within it rises. Rows of the weight become columns of a panel:
struct PanelSink {
  static constexpr bool one_row = false;
  Panel& panel;
  int v;

  void give(int step, vu q) { panel.q[step][v] = q; }
  void end(int g, vf scale, vf minimum) {
    panel.scale[g][v] = scale;
    panel.minimum[g][v] = minimum;
  }
};

// Eight blocks of 32 whose scale, a half, stands before their values: two of them are a whole number of dwords, so that scales come out of the same
// transposed vectors as the values. For one row; panels are made more slowly this way.
template <StoredType T, class Sink>
SW_INLINE void unpack_after_halves(Sink& to, Rows rows) {
  constexpr int bytes = kBlockSizes[T].bytes, words = bytes / 4;
  vu x[4];
  SW_UNROLL for (int pair = 0; pair < 4; pair++) {
    vu both[2 * words + 1];
    SW_UNROLL for (int i = 0; i <= 2 * words; i++) {
      const int at = pair * (2 * words + 1) + i;
      if (at % 4 == 0) load_dwords(rows, at / 4 * 16, x);
      both[i] = x[at % 4];
    }
    SW_UNROLL for (int second = 0; second < 2; second++) {
      const int b = 2 * pair + second;
      rows.template ask<bytes>(bytes * b);
      SW_UNROLL for (int i = 0; i < words; i++) {
        const vu q = second ? both[words + 1 + i] : both[i] >> 16 | both[i + 1] << 16;
        if (T == kQ8_0) {
          to.give(8 * b + i, q ^ kByteOffset * 0x01010101u);
          continue;
        }
        const vu low = q & kNibbles, high = q >> 4 & kNibbles;
        to.give(8 * b + i, T == kIq4NL ? look_up(kIq4Table, low) : low);
        to.give(8 * b + 4 + i, T == kIq4NL ? look_up(kIq4Table, high) : high);
      }
      to.end(b, half_to_float(second ? both[words] >> 16 : both[0] & 0xffff), splat(0));
    }
  }
}

// `blocks` blocks of 32.
template <StoredType T, class Sink>
SW_INLINE void unpack_simple(Sink& to, Rows rows, int blocks) {
  constexpr int bytes = kBlockSizes[T].bytes, scales = T == kMxfp4 ? 1 : Layout<T>::minima ? 4 : 2;
  constexpr bool fifth = T == kQ5_0 || T == kQ5_1;
  if constexpr (Sink::one_row && (T == kQ4_0 || T == kQ8_0 || T == kIq4NL)) {
    if (blocks == kChunk / 32) return unpack_after_halves<T>(to, rows);
  }
  uint16_t scale[kChunk / 32][kLanes], minimum[kChunk / 32][kLanes];
  for (int b = 0; b < blocks; b++) {
    copy_u16(rows, (int64_t)b * bytes, scale[b]);
    if (Layout<T>::minima) copy_u16(rows, (int64_t)b * bytes + 2, minimum[b]);
  }
  for (int b = 0; b < blocks; b++) {
    const int64_t at = (int64_t)b * bytes;
    rows.template ask<bytes>(at);
    vu x[4], high = {};
    if (fifth) high = load_u32(rows, at + scales);
    load_dwords(rows, at + scales + (fifth ? 4 : 0), x);
    SW_UNROLL for (int i = 0; i < 8; i++) {
      if (T == kQ8_0) {
        if (i == 4) load_dwords(rows, at + scales + 16, x);
        to.give(8 * b + i, x[i & 3] ^ kByteOffset * 0x01010101u);
        continue;
      }
      vu q = (i < 4 ? x[i] : x[i - 4] >> 4) & kNibbles;
      if (fifth) q |= ((high >> 4 * i & 15) * 0x00204081 & 0x01010101) << 4;  // four bits to four bytes
      if (T == kIq4NL) q = look_up(kIq4Table, q);
      if (T == kMxfp4) q = look_up(kE2M1Table, q);
      to.give(8 * b + i, q);
    }
    const vu bits = load_u16(scale[b]);
    to.end(b, T == kMxfp4 ? half_e8m0(bits & 255) : half_to_float(bits), Layout<T>::minima ? -half_to_float(load_u16(minimum[b])) : splat(0));
  }
}

#include "quant_blocks.inl"

// `steps` (a multiple of 32, at most kChunk, and kChunk for types with blocks of 256) of k of one vector's rows.
template <StoredType T, class Sink>
SW_INLINE void unpack(Sink& to, Rows rows, int64_t steps) {
  if constexpr (T == kQ4K || T == kQ5K) unpack_scaled_nibbles<T == kQ5K>(to, rows);
  else if constexpr (T == kQ6K) unpack_q6(to, rows);
  else if constexpr (T == kQ3K) unpack_q3(to, rows);
  else if constexpr (T == kQ2K) unpack_q2(to, rows);
  else if constexpr (T == kIq4XS) unpack_iq4xs(to, rows);
  else unpack_simple<T>(to, rows, steps / 32);
}
template <StoredType T>
static void unpack(Panel& panel, int v, const uint8_t* const* rows, const char* ahead, int64_t steps) {
  PanelSink sink = {panel, v};
  unpack<T>(sink, {rows, {ahead}, 1, 0}, steps);
}
