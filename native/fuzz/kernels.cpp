// The kernels that a checkpoint's bytes reach, of one instruction set; the Makefile defines SW_ISA and SW_LANES. Without the others,
// which the sanitizers make slow to compile.
#include <immintrin.h>
#include <math.h>
#include <string.h>

#include "../core/pool.h"
#include "../kernels/table.h"

#pragma GCC diagnostic ignored "-Wunused-function"

namespace sw {
namespace {
namespace SW_ISA {
#include "../kernels/weights.inl"

#include "../kernels/routing.inl"
}  // namespace SW_ISA
}  // namespace

#define SW_TEXT(name) #name
#define SW_NAME(name) SW_TEXT(name)
#define SW_JOIN(name) kernels_##name
#define SW_TABLE(name) SW_JOIN(name)
const KernelTable SW_TABLE(SW_ISA) = {
    .name = SW_NAME(SW_ISA),
    .matmul = SW_ISA::matmul,
    .gather_rows = SW_ISA::gather_rows,
    .narrow = SW_ISA::narrow,
    .top_k = SW_ISA::top_k,
    .sort_by_expert = SW_ISA::sort_by_expert,
};

}  // namespace sw
