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
#include "weights.inl"
#include "attention.inl"
#include "attention_once.inl"
#include "attention_backward.inl"
#include "peak.inl"
#include "special.inl"
#include "norm.inl"
#include "rope.inl"
#include "activation.inl"
#include "mixers.inl"
#include "indexer.inl"
#include "rows.inl"
#include "softmax.inl"
#include "routing.inl"
#include "elementwise.inl"
#include "random.inl"
}  // namespace SW_ISA
}  // namespace

const KernelTable SW_TABLE = {
    .name = SW_NAME,
    .matmul = SW_ISA::matmul,
    .attention = SW_ISA::attention,
    .attention_backward = SW_ISA::attention_backward,
    .norm = SW_ISA::norm,
    .norm_backward = SW_ISA::norm_backward,
    .rope = SW_ISA::rope,
    .glu = SW_ISA::glu,
    .causal_conv = SW_ISA::causal_conv,
    .linear_attention = SW_ISA::linear_attention,
    .delta_decays = SW_ISA::delta_decays,
    .selective_scan = SW_ISA::selective_scan,
    .lightning_indexer = SW_ISA::lightning_indexer,
    .gather_rows = SW_ISA::gather_rows,
    .narrow = SW_ISA::narrow,
    .scatter_add_rows = SW_ISA::scatter_add_rows,
    .combine_rows = SW_ISA::combine_rows,
    .softmax = SW_ISA::softmax,
    .softmax_backward = SW_ISA::softmax_backward,
    .log_sum_exp = SW_ISA::log_sum_exp,
    .log_sum_exp_backward = SW_ISA::log_sum_exp_backward,
    .cross_entropy = SW_ISA::cross_entropy,
    .cross_entropy_backward = SW_ISA::cross_entropy_backward,
    .top_k = SW_ISA::top_k,
    .gather_columns = SW_ISA::gather_columns,
    .scatter_columns = SW_ISA::scatter_columns,
    .sort_by_expert = SW_ISA::sort_by_expert,
    .unary = SW_ISA::unary,
    .unary_backward = SW_ISA::unary_backward,
    .binary = SW_ISA::binary,
    .scale = SW_ISA::scale,
    .sum = SW_ISA::sum,
    .dropout = SW_ISA::dropout,
    .uniform = SW_ISA::uniform,
    .normal = SW_ISA::normal,
    .adam_w = SW_ISA::adam_w,
    .sum_squares = SW_ISA::sum_squares,
    .peak = SW_ISA::peak,
};

}  // namespace sw
