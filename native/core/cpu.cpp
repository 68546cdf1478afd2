#include "cpu.h"

#include <cpuid.h>

namespace sw {
namespace {

struct Leaf {
  unsigned a = 0, b = 0, c = 0, d = 0;
  Leaf(unsigned leaf, unsigned subleaf) { __get_cpuid_count(leaf, subleaf, &a, &b, &c, &d); }
};

// XCR0: the register states that the operating system saves on a context switch.
unsigned saved_states(const Leaf& features) {
  if (!(features.c >> 27 & 1)) return 0;  // OSXSAVE
  unsigned low, high;
  __asm__("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  return low;
}

}  // namespace

bool cpu_supports(Isa isa) {
  const Leaf features(1, 0), extended(7, 0), extended1(7, 1);
  const unsigned saved = saved_states(features);
  const bool avx2 = (saved & 0x06) == 0x06 && (features.c >> 12 & 1) && (features.c >> 29 & 1) && (extended.b >> 5 & 1);  // FMA, F16C, AVX2
  const unsigned f_dq_bw_vl = 1u << 16 | 1u << 17 | 1u << 30 | 1u << 31;
  const bool avx512 = avx2 && (saved & 0xe6) == 0xe6 && (extended.b & f_dq_bw_vl) == f_dq_bw_vl;
#ifdef SWITCHYARD_EMULATE_AVX512
  if (isa > kAvx2) return avx2;
#endif
  switch (isa) {
    case kX86_64:
      return true;
    case kAvx2:
      return avx2;
    case kAvx512:
      return avx512;
    case kAvx512Bf16:
      return avx512 && (extended1.a >> 5 & 1) && (extended.c >> 11 & 1);  // and VNNI
    default:
      return false;
  }
}

}  // namespace sw
