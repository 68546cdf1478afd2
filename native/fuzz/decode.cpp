// Blocks of every stored type element by element, as src/quant has them; layouts are described there.
#include <math.h>
#include <string.h>

#include "fuzz.h"

namespace sw {
namespace {

float half(const uint8_t* p) {
  const int bits = p[0] | p[1] << 8, exponent = bits >> 10 & 31, fraction = bits & 1023;
  const float sign = bits >> 15 ? -1.0f : 1.0f;
  if (exponent == 31) return fraction ? __builtin_nanf("") : sign * __builtin_inff();
  return sign * (float)(exponent ? (1024 + fraction) * (1LL << exponent) : 2 * fraction) * 0x1p-25f;
}

float bfloat(const uint8_t* p) {
  const uint32_t bits = (uint32_t)(p[0] | p[1] << 8) << 16;
  float x;
  memcpy(&x, &bits, 4);
  return x;
}

// Element i of 128 behind their scale; of E4M3 the largest magnitude is NaN.
float scaled_fp8(StoredType type, const uint8_t* b, int i) {
  const int bits = b[4 + i], exponent = bits >> 3 & 15, fraction = bits & 7;
  const uint8_t halves[] = {0, b[4 + i]};
  const float sign = bits >> 7 ? -1.0f : 1.0f, e4m3 = (bits & 127) == 127 ? __builtin_nanf("") : sign * ldexpf((float)(exponent ? 8 + fraction : fraction), (exponent ? exponent : 1) - 10);
  float scale;
  memcpy(&scale, b, 4);
  return (type == kE4m3 ? e4m3 : half(halves)) * scale;
}

constexpr int8_t kSteps[16] = {-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113};
constexpr int8_t kDoubledE2M1[16] = {0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12};

// Element i of 32: low nibbles first, then high ones.
int nibble(const uint8_t* p, int i) { return p[i & 15] >> (i < 16 ? 0 : 4) & 15; }
int bit(const uint8_t* p, int i) { return p[i >> 3] >> (i & 7) & 1; }
// Element i of 256 fields of two bits.
int pair(const uint8_t* p, int i) { return p[(i >> 7) * 32 + (i & 31)] >> ((i >> 5 & 3) * 2) & 3; }

float element32(StoredType type, const uint8_t* b, int i) {
  switch (type) {
    case kQ4_0: return half(b) * (nibble(b + 2, i) - 8);
    case kQ4_1: return half(b) * nibble(b + 4, i) + half(b + 2);
    case kQ5_0: return half(b) * ((nibble(b + 6, i) | bit(b + 2, i) << 4) - 16);
    case kQ5_1: return half(b) * (nibble(b + 8, i) | bit(b + 4, i) << 4) + half(b + 2);
    case kQ8_0: return half(b) * (int8_t)b[2 + i];
    case kIq4NL: return half(b) * kSteps[nibble(b + 2, i)];
    default: return ldexpf(1, b[0] - 128) * kDoubledE2M1[nibble(b + 1, i)];
  }
}

// Of q4_k and q5_k: the six bits of scale j, or of minimum j, in 12 bytes.
int six_bits(const uint8_t* p, int j, bool minimum) {
  if (j < 4) return p[j + (minimum ? 4 : 0)] & 63;
  return (p[j + 4] >> (minimum ? 4 : 0) & 15) | p[minimum ? j : j - 4] >> 6 << 4;
}

float element256(StoredType type, const uint8_t* b, int i) {
  const int j16 = i >> 4, j32 = i >> 5;
  switch (type) {
    case kQ2K: return half(b + 80) * (b[j16] & 15) * pair(b + 16, i) - half(b + 82) * (b[j16] >> 4);
    case kQ3K: {
      const int scale = (b[96 + (j16 & 7)] >> (j16 < 8 ? 0 : 4) & 15) | (b[104 + (j16 & 3)] >> (j16 >> 2) * 2 & 3) << 4;
      return half(b + 108) * (scale - 32) * (pair(b + 32, i) - (b[i & 31] >> j32 & 1 ? 0 : 4));
    }
    case kQ4K:
    case kQ5K: {
      const uint8_t* low = b + (type == kQ5K ? 48 : 16);
      int q = low[(j32 >> 1) * 32 + (i & 31)] >> (j32 & 1) * 4 & 15;
      if (type == kQ5K) q |= (b[16 + (i & 31)] >> j32 & 1) << 4;
      return half(b) * six_bits(b + 4, j32, false) * q - half(b + 2) * six_bits(b + 4, j32, true);
    }
    case kQ6K: {
      const int low = b[(i >> 7) * 64 + (i & 63)] >> (i >> 6 & 1) * 4 & 15;
      return half(b + 208) * (int8_t)b[192 + j16] * ((low | pair(b + 128, i) << 4) - 32);
    }
    default: {
      const int scale = (b[4 + (j32 >> 1)] >> (j32 & 1) * 4 & 15) | (b[2 + (j32 >> 2)] >> (j32 & 3) * 2 & 3) << 4;
      return half(b) * (scale - 32) * kSteps[nibble(b + 8 + j32 * 16, i & 31)];
    }
  }
}

}  // namespace

void decode(StoredType type, const uint8_t* blocks, int64_t count, float* out) {
  const auto [elements, bytes] = kBlockSizes[type];
  for (int64_t block = 0; block < count; block++, blocks += bytes) {
    for (int i = 0; i < elements; i++, out++) {
      if (type == kFloat) memcpy(out, blocks, 4);
      else if (type == kHalf) *out = half(blocks);
      else if (type == kBfloat) *out = bfloat(blocks);
      else if (type > kMxfp4) *out = scaled_fp8(type, blocks, i);
      else *out = elements == 32 ? element32(type, blocks, i) : element256(type, blocks, i);
    }
  }
}

}  // namespace sw
