// The whole of one instruction set's translation unit. Before including it, define SW_ISA (namespace), SW_TABLE (the table's
// name), SW_NAME (shown to the user) and SW_LANES. Everything in here has internal linkage: a symbol that the linker may merge
// could put AVX-512 code into the table for old machines.
#include <immintrin.h>
#include <math.h>
#include <string.h>

#include "../core/pool.h"
#include "table.h"

namespace sw {
namespace {
namespace SW_ISA {
#include "simd.h"
#include "math.inl"

#include "pack.inl"
#include "matmul.inl"
#include "peak.inl"
}  // namespace SW_ISA
}  // namespace

const KernelTable SW_TABLE = {
    .name = SW_NAME,
    .matmul = SW_ISA::matmul,
    .attention = nullptr,
    .attention_backward = nullptr,
    .peak = SW_ISA::peak,
};

}  // namespace sw
