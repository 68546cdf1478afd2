// Random tensors from the counter-based generator that src/engine/reference/random.ts defines.

SW_INLINE vu mix(vu x) {
  x = (x ^ (x >> 16)) * 0x21f0aaadu;
  x = (x ^ (x >> 15)) * 0xd35a2d97u;
  return x ^ (x >> 15);
}

struct Random {
  uint32_t key0, key1;

  explicit Random(uint64_t seed) {
    key0 = mix((vu){} + ((uint32_t)seed + 0x9e3779b9u))[0];
    key1 = mix((vu){} + (key0 ^ mix((vu){} + ((uint32_t)(seed >> 32) + 0x85ebca6bu))[0]))[0];
  }

  // The upper 24 of the 32 random bits of elements index, index + 1, ...
  vi bits24(int64_t index) const {
    return (vi)(mix(mix((vu)lane_index() + ((uint32_t)index + key0)) ^ key1) >> 8);
  }

  vf unit(int64_t index) const { return __builtin_convertvector(bits24(index), vf) * 0x1p-24f; }
};

// Elements whose 24 bits are below `threshold` are dropped.
static void dropout(float* out, const float* x, int64_t n, int32_t threshold, float factor, uint64_t seed) {
  const Random random(seed);
  parallel_blocks(n, kHeavyGrain, [&](int64_t first, int64_t last) {
    for (int64_t i = first; i < last; i += kLanes) {
      store(out + i, select(random.bits24(i) < threshold, splat(0), load(x + i, last - i) * factor), last - i);
    }
  });
}

static void uniform(float* out, int64_t n, float low, float high, uint64_t seed) {
  const Random random(seed);
  parallel_blocks(n, kHeavyGrain, [&](int64_t first, int64_t last) {
    for (int64_t i = first; i < last; i += kLanes) {
      const vf x = low + (high - low) * random.unit(i);
      store(out + i, select(x < high, x, splat(low)), last - i);
    }
  });
}

// Elements 2i and 2i + 1 are the cosine and sine (a cosine a quarter turn later) of one draw.
static void normal(float* out, int64_t n, float std, uint64_t seed) {
  const Random random(seed);
  const vf phase = __builtin_convertvector(lane_index() & 1, vf) * 0.25f;
  parallel_blocks(n, kHeavyGrain, [&](int64_t first, int64_t last) {
    for (int64_t i = first; i < last; i += kLanes) {
      const vf unit = random.unit(i);
      const vf radius = vsqrt(-2.0f * vlog(1.0f - permute<~1, 0>(unit)));
      store(out + i, std * radius * cos_turns(permute<~1, 1>(unit) - phase), last - i);
    }
  });
}
