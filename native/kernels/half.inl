// Numbers of half width, in the low 16 bits of each lane, to f32; exact.

SW_INLINE vf bfloat_to_float(vu x) { return (vf)(x << 16); }

// binary16. The exponent is moved by a multiplication, which also makes subnormal numbers normal.
SW_INLINE vf half_to_float(vu x) {
  const vu magnitude = (x & 0x7fff) << 13;
  const vu scaled = (vu)((vf)magnitude * splat(0x1p112f));
  return (vf)((magnitude >= 0x0f800000 ? scaled | 0x7f800000 : scaled) | (x & 0x8000) << 16);
}

// The 16-bit number at each of kLanes addresses, `offset` bytes on.
SW_INLINE vu load_u16(const uint8_t* const* rows, int64_t offset) {
  uint32_t lanes[kLanes];
  for (int r = 0; r < kLanes; r++) {
    uint16_t x;
    memcpy(&x, rows[r] + offset, 2);
    lanes[r] = x;
  }
  vu x;
  memcpy(&x, lanes, sizeof x);
  return x;
}

// `n` numbers from any address.
static void widen(float* out, const char* from, StoredType type, int64_t n) {
  for (int64_t i = 0; i < n; i += kLanes) {
    uint16_t halves[kLanes] = {};
    memcpy(halves, from + 2 * i, 2 * (n - i < kLanes ? n - i : kLanes));
    typedef uint16_t vh __attribute__((vector_size(SW_LANES * 2)));
    vh x;
    memcpy(&x, halves, sizeof x);
    const vu lanes = __builtin_convertvector(x, vu);
    store(out + i, type == kHalf ? half_to_float(lanes) : bfloat_to_float(lanes), n - i);
  }
}
