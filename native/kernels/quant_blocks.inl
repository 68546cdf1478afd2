// Unpacks types whose blocks have 256 elements, with scales of groups beside one of the whole.

// Scales and minima of the groups of kLanes rows of q4_k or q5_k.
struct NibbleScales {
  vf d, dmin;
  vu scales[2], minima[2];

  SW_MEMBER NibbleScales(Rows rows) {
    vu head[4];
    load_dwords(rows, 0, head);
    d = half_to_float(head[0] & 0xffff), dmin = half_to_float(head[0] >> 16);
    scales[0] = head[1] & 0x3f3f3f3f, scales[1] = (head[3] & kNibbles) | (head[1] >> 6 & 0x03030303) << 4;
    minima[0] = head[2] & 0x3f3f3f3f, minima[1] = (head[3] >> 4 & kNibbles) | (head[2] >> 6 & 0x03030303) << 4;
  }
  SW_MEMBER vf scale(int g) const { return d * to_float(byte_of(scales[g / 4], g % 4)); }
  SW_MEMBER vf minimum(int g) const { return dmin * to_float(byte_of(minima[g / 4], g % 4)); }
};
// 16 where bit `at` of a byte is set.
SW_INLINE vu fifth_bit(vu bits, int at) { return (at < 4 ? bits << (4 - at) : bits >> (at - 4)) & 0x10101010; }

// q4_k and q5_k.
template <bool FIFTH, class Sink>
SW_INLINE void unpack_scaled_nibbles(Sink& to, Rows rows) {
  vu x[4], fifth[8];
  const NibbleScales scales(rows);
  if (FIFTH) {
    load_dwords(rows, 16, fifth);
    load_dwords(rows, 32, fifth + 4);
  }
  SW_UNROLL for (int quad = 0; quad < 8; quad++) {  // 16 elements of each of two groups
    constexpr int part = (FIFTH ? 176 : 144) / 8;
    const int low = quad / 2 * 2;
    rows.template ask<part>(part * quad);
    load_dwords(rows, (FIFTH ? 48 : 16) + 16 * quad, x);
    SW_UNROLL for (int i = 0; i < 4; i++) {
      const int at = quad % 2 * 4 + i;
      vu even = x[i] & kNibbles, odd = x[i] >> 4 & kNibbles;
      if (FIFTH) {
        even |= fifth_bit(fifth[at], low);
        odd |= fifth_bit(fifth[at], low + 1);
      }
      to.give(8 * low + at, even);
      to.give(8 * low + 8 + at, odd);
    }
    if (quad % 2 == 0) continue;
    SW_UNROLL for (int j = low; j < low + 2; j++) to.end(j, scales.scale(j), scales.minimum(j));
  }
}

// Two-bit fields of the 32 bytes at `offset`, half `half` of 256 elements: use(step, fields). Asks for 2 * ASK bytes of each row from `asked` on.
template <int ASK, class Use>
SW_INLINE void unpack_pairs(Rows rows, int half, int64_t offset, int64_t asked, Use use) {
  SW_UNROLL for (int quad = 0; quad < 2; quad++) {
    vu x[4];
    rows.template ask<ASK>(asked + ASK * quad);
    load_dwords(rows, offset + 16 * quad, x);
    SW_UNROLL for (int t = 0; t < 4; t++) {
      SW_UNROLL for (int i = 0; i < 4; i++) use(8 * (half * 4 + t) + quad * 4 + i, x[i] >> 2 * t & 0x03030303);
    }
  }
}

// The scales, which stand at the end of a block, are read last: memory is faster when it is read as it lies.
template <class Sink>
SW_INLINE void unpack_q6(Sink& to, Rows rows) {
  vu scales[4], first[4], second[4], high[4];
  SW_UNROLL for (int half = 0; half < 2; half++) {
    SW_UNROLL for (int quad = 0; quad < 2; quad++) {  // 16 elements of every other group of the half
      const int step = 32 * half + 4 * quad, at = 53 * (2 * half + quad);
      rows.ask<18>(at);
      load_dwords(rows, 64 * half + 16 * quad, first);
      rows.ask<18>(at + 18);
      load_dwords(rows, 64 * half + 16 * quad + 32, second);
      rows.ask<17>(at + 36);
      load_dwords(rows, 128 + 32 * half + 16 * quad, high);
      SW_UNROLL for (int i = 0; i < 4; i++) {
        to.give(step + i, (first[i] & kNibbles) | (high[i] << 4 & 0x30303030));
        to.give(step + 8 + i, (second[i] & kNibbles) | (high[i] << 2 & 0x30303030));
        to.give(step + 16 + i, (first[i] >> 4 & kNibbles) | (high[i] & 0x30303030));
        to.give(step + 24 + i, (second[i] >> 4 & kNibbles) | (high[i] >> 2 & 0x30303030));
      }
    }
  }
  load_dwords(rows, 192, scales);
  const vf d = half_to_float(load_u16(rows, 208));
  SW_UNROLL for (int g = 0; g < 16; g++) to.end(g, d * signed_byte(scales[g / 4], g % 4), splat(0));
}

template <class Sink>
SW_INLINE void unpack_q3(Sink& to, Rows rows) {
  const vf d = half_to_float(load_u16(rows, 108));
  const vu low[2] = {load_u32(rows, 96), load_u32(rows, 100)}, high = load_u32(rows, 104);
  vu mask[8];
  load_dwords(rows, 0, mask);
  load_dwords(rows, 16, mask + 4);
  SW_UNROLL for (int half = 0; half < 2; half++) {
    unpack_pairs<28>(rows, half, 32 + 32 * half, 56 * half, [&](int step, vu q) { to.give(step, q | (mask[step % 8] >> step / 8 & 0x01010101) << 2); });
    SW_UNROLL for (int j = 8 * half; j < 8 * half + 8; j++) {
      const vu scale = (byte_of(low[j / 4 % 2], j % 4) >> j / 8 * 4 & 15) | (byte_of(high, j % 4) >> j / 4 * 2 & 3) << 4;
      to.end(j, d * (to_float(scale) - 32), splat(0));
    }
  }
}

template <class Sink>
SW_INLINE void unpack_q2(Sink& to, Rows rows) {
  const vf d = half_to_float(load_u16(rows, 80)), dmin = half_to_float(load_u16(rows, 82));
  vu x[4];
  load_dwords(rows, 0, x);
  SW_UNROLL for (int half = 0; half < 2; half++) {
    unpack_pairs<21>(rows, half, 16 + 32 * half, 42 * half, [&](int step, vu q) { to.give(step, q); });
    SW_UNROLL for (int j = 8 * half; j < 8 * half + 8; j++) {
      const vu both = byte_of(x[j / 4], j % 4);
      to.end(j, d * to_float(both & 15), dmin * to_float(both >> 4));
    }
  }
}

// Scales of the groups of kLanes rows of iq4_xs.
struct Iq4Scales {
  vf d;
  vu high, low;

  SW_MEMBER Iq4Scales(Rows rows) : d(half_to_float(load_u16(rows, 0))), high(load_u16(rows, 2)), low(load_u32(rows, 4)) {}
  SW_MEMBER vf scale(int g) const { return d * (to_float((low >> 4 * g & 15) | (high >> 2 * g & 3) << 4) - 32); }
};

template <class Sink>
SW_INLINE void unpack_iq4xs(Sink& to, Rows rows) {
  const Iq4Scales scales(rows);
  SW_UNROLL for (int j = 0; j < 8; j++) {
    vu x[4];
    rows.ask<17>(17 * j);
    load_dwords(rows, 8 + 16 * j, x);
    SW_UNROLL for (int i = 0; i < 8; i++) to.give(8 * j + i, look_up(kIq4Table, (i < 4 ? x[i] : x[i - 4] >> 4) & kNibbles));
    to.end(j, scales.scale(j), splat(0));
  }
}
