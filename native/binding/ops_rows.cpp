// Norms, rotary embedding, activations, moving rows, losses and routing.
#include "binding.h"

namespace sw {
namespace {

Norm norm_of(Args& args, int first) {
  Norm p = {};
  p.rows = args.dim(first, "rows"), p.cols = args.dim(first + 1, "cols");
  p.centred = args.flag(first + 2), p.eps = (float)args.number(first + 3), p.offset = (float)args.number(first + 4);
  return p;
}

// norm(isa, out, x, weight or 0, bias or 0, rows, cols, centred, eps, offset)
void op_norm(Args& args, const KernelTable& kernels) {
  Norm p = norm_of(args, 5);
  p.out = args.out<float>(1, "out", product(p.rows, p.cols));
  p.x = args.in<float>(2, "x", product(p.rows, p.cols));
  p.weight = args.in_or_null<float>(3, "weight", p.cols);
  p.bias = args.in_or_null<float>(4, "bias", p.cols);
  if (args.ok()) kernels.norm(p);
}

// normBackward(isa, dx, dweight, dbias, dout, x, weight or 0, rows, cols, centred, eps, offset, accumulate dx, dweight, dbias): 0 for a
// gradient not wanted
void op_norm_backward(Args& args, const KernelTable& kernels) {
  Norm p = norm_of(args, 7);
  p.dx = args.out_or_null<float>(1, "dx", product(p.rows, p.cols));
  p.dweight = args.out_or_null<float>(2, "dweight", p.cols);
  p.dbias = args.out_or_null<float>(3, "dbias", p.cols);
  p.dout = args.in<float>(4, "dout", product(p.rows, p.cols));
  p.x = args.in<float>(5, "x", product(p.rows, p.cols));
  p.weight = args.in_or_null<float>(6, "weight", p.cols);
  p.accumulate_dx = args.flag(12), p.accumulate_dweight = args.flag(13), p.accumulate_dbias = args.flag(14);
  if (args.ok()) kernels.norm_backward(p);
}

// rope(isa, out, x, table, positions, tokens, tableRows, heads, headDim, first, rotary, interleaved, inverse)
void op_rope(Args& args, const KernelTable& kernels) {
  Rope p = {};
  p.tokens = args.dim(5, "tokens"), p.heads = args.dim(7, "heads"), p.head_dim = args.dim(8, "headDim");
  p.first = args.integer(9, "first", 0, p.head_dim), p.rotary = args.integer(10, "rotary", 0, p.head_dim - p.first);
  p.interleaved = args.flag(11), p.inverse = args.flag(12);
  const int64_t table_rows = args.dim(6, "tableRows");
  p.out = args.out<float>(1, "out", product(p.tokens, p.heads, p.head_dim));
  p.x = args.in<float>(2, "x", product(p.tokens, p.heads, p.head_dim));
  p.table = args.in<float>(3, "table", product(table_rows, p.rotary));
  p.positions_T = args.in<int32_t>(4, "positions", p.tokens);
  if (p.rotary % 2 != 0) args.fail("rotary must be even, got %lld", (long long)p.rotary);
  args.check_range(p.positions_T, p.tokens, "positions", 0, table_rows - 1);
  if (args.ok()) kernels.rope(p);
}

// Of the arguments from `first`: x, rowScale, offsets, groups, rows, width, activation, gated, scaleInput, limit, upOffset, bias. Only the
// first offsets[E] rows exist.
Glu glu_of(Args& args, int first) {
  Glu p = {};
  const int64_t groups = args.dim(first + 3, "groups");
  p.offsets_E = args.in_or_null<int32_t>(first + 2, "offsets", groups + 1);
  p.rows = args.dim(first + 4, "rows"), p.width = args.dim(first + 5, "width");
  args.check_offsets(p.offsets_E, groups, "offsets", p.rows);
  if (args.ok() && p.offsets_E) p.rows = p.offsets_E[groups];
  p.activation = (Activation)args.integer(first + 6, "activation", kSilu, kRelu2), p.gated = args.flag(first + 7);
  p.x = args.in<float>(first, "x", product(p.rows, p.width, p.gated ? 2 : 1));
  p.row_scale = args.in_or_null<float>(first + 1, "rowScale", p.rows);
  p.scale_input = args.flag(first + 8), p.limit = (float)args.number(first + 9), p.up_offset = (float)args.number(first + 10);
  p.bias = args.in_or_null<float>(first + 11, "bias", product(p.offsets_E ? groups : 1, p.width, p.gated ? 2 : 1));
  return p;
}

// glu(isa, out, x, ...)
void op_glu(Args& args, const KernelTable& kernels) {
  Glu p = glu_of(args, 2);
  p.out = args.out<float>(1, "out", product(p.rows, p.width));
  if (args.ok()) kernels.glu(p);
}

// gluBackward(isa, dx, drowScale, dout, x, ...)
void op_glu_backward(Args& args, const KernelTable& kernels) {
  Glu p = glu_of(args, 4);
  p.dx = args.out<float>(1, "dx", product(p.rows, p.width, p.gated ? 2 : 1));
  p.drow_scale = args.out_or_null<float>(2, "drowScale", p.rows);
  p.dout = args.in<float>(3, "dout", product(p.rows, p.width));
  if (args.ok() && p.rows > 0) kernels.glu(p);
}

// gatherRows(isa, out, table, rows, m, cols, tableRows, type)
void op_gather_rows(Args& args, const KernelTable& kernels) {
  const int64_t m = args.dim(4, "m"), cols = args.dim(5, "cols"), table_rows = args.dim(6, "tableRows");
  float* out = args.out<float>(1, "out", product(m, cols));
  const StoredType type = (StoredType)args.integer(7, "type of table", kFloat, kLastType);
  const void* table = args.weights(2, "table", type, 1, table_rows, cols);
  const int32_t* rows = args.in<int32_t>(3, "rows", m);
  args.check_range(rows, m, "rows", INT32_MIN, table_rows - 1);
  if (args.ok()) kernels.gather_rows(out, table, type, rows, m, cols);
}

// scatterAddRows(isa, dtable, dout, rows, m, cols, tableRows)
void op_scatter_add_rows(Args& args, const KernelTable& kernels) {
  const int64_t m = args.dim(4, "m"), cols = args.dim(5, "cols"), table_rows = args.dim(6, "tableRows");
  float* dtable = args.out<float>(1, "dtable", product(table_rows, cols));
  const float* dout = args.in<float>(2, "dout", product(m, cols));
  const int32_t* rows = args.in<int32_t>(3, "rows", m);
  args.check_range(rows, m, "rows", INT32_MIN, table_rows - 1);
  if (args.ok()) kernels.scatter_add_rows(dtable, dout, rows, m, cols);
}

// combineRows(isa, out, y, positions, tokens, k, cols, rowsOfY, accumulate, weights or 0)
void op_combine_rows(Args& args, const KernelTable& kernels) {
  const int64_t tokens = args.dim(4, "tokens"), k = args.dim(5, "k"), cols = args.dim(6, "cols"), rows = args.dim(7, "rows");
  float* out = args.out<float>(1, "out", product(tokens, cols));
  const float* y = args.in<float>(2, "y", product(rows, cols));
  const int32_t* positions = args.in<int32_t>(3, "positions", product(tokens, k));
  args.check_range(positions, product(tokens, k), "positions", INT32_MIN, rows - 1);
  const float* weights = args.in_or_null<float>(9, "weights", product(tokens, k));
  if (args.ok()) kernels.combine_rows(out, y, positions, weights, tokens, k, cols, args.flag(8));
}

// crossEntropy(isa, losses, logits, targets, tokens, vocab)
void op_cross_entropy(Args& args, const KernelTable& kernels) {
  const int64_t tokens = args.dim(4, "tokens"), vocab = args.dim(5, "vocab");
  float* losses = args.out<float>(1, "losses", tokens);
  const float* logits = args.in<float>(2, "logits", product(tokens, vocab));
  const int32_t* targets = args.in<int32_t>(3, "targets", tokens);
  args.check_range(targets, tokens, "targets", INT32_MIN, vocab - 1);
  if (args.ok()) kernels.cross_entropy(losses, logits, targets, tokens, vocab);
}

// crossEntropyBackward(isa, dlogits, dlosses, logits, targets, tokens, vocab)
void op_cross_entropy_backward(Args& args, const KernelTable& kernels) {
  const int64_t tokens = args.dim(5, "tokens"), vocab = args.dim(6, "vocab");
  float* dlogits = args.out<float>(1, "dlogits", product(tokens, vocab));
  const float* dlosses = args.in<float>(2, "dlosses", tokens);
  const float* logits = args.in<float>(3, "logits", product(tokens, vocab));
  const int32_t* targets = args.in<int32_t>(4, "targets", tokens);
  args.check_range(targets, tokens, "targets", INT32_MIN, vocab - 1);
  if (args.ok()) kernels.cross_entropy_backward(dlogits, dlosses, logits, targets, tokens, vocab);
}

// topK(isa, indices, scores, bias or 0, tokens, experts, k, groups or 0, keep, top2sum)
void op_top_k(Args& args, const KernelTable& kernels) {
  TopK p = {};
  p.tokens = args.dim(4, "tokens"), p.experts = args.dim(5, "experts"), p.k = args.integer(6, "k", 0, p.experts);
  p.groups = args.integer(7, "groups", 0, p.experts), p.keep = args.integer(8, "keep", 0, p.groups), p.top2sum = args.flag(9);
  p.indices = args.out<int32_t>(1, "indices", product(p.tokens, p.k));
  p.scores = args.in<float>(2, "scores", product(p.tokens, p.experts));
  p.bias = args.in_or_null<float>(3, "bias", p.experts);
  if (p.groups > 0 && p.experts % p.groups != 0) args.fail("%lld experts do not divide into %lld groups", (long long)p.experts, (long long)p.groups);
  if (args.ok() && p.k > 0) kernels.top_k(p);
}

// gatherColumns(isa, out, x, columns, tokens, k, cols)
void op_gather_columns(Args& args, const KernelTable& kernels) {
  const int64_t tokens = args.dim(4, "tokens"), k = args.dim(5, "k"), cols = args.dim(6, "cols");
  float* out = args.out<float>(1, "out", product(tokens, k));
  const float* x = args.in<float>(2, "x", product(tokens, cols));
  const int32_t* columns = args.in<int32_t>(3, "columns", product(tokens, k));
  args.check_range(columns, product(tokens, k), "columns", INT32_MIN, cols - 1);
  if (args.ok()) kernels.gather_columns(out, x, columns, tokens, k, cols);
}

// scatterColumns(isa, dx, dout, columns, tokens, k, cols, accumulate)
void op_scatter_columns(Args& args, const KernelTable& kernels) {
  const int64_t tokens = args.dim(4, "tokens"), k = args.dim(5, "k"), cols = args.dim(6, "cols");
  float* dx = args.out<float>(1, "dx", product(tokens, cols));
  const float* dout = args.in<float>(2, "dout", product(tokens, k));
  const int32_t* columns = args.in<int32_t>(3, "columns", product(tokens, k));
  args.check_range(columns, product(tokens, k), "columns", INT32_MIN, cols - 1);
  if (args.ok()) kernels.scatter_columns(dx, dout, columns, tokens, k, cols, args.flag(7));
}

// sortByExpert(isa, offsets, slots, sortedTokens, positions, experts, tokens, k, expertCount, rows)
void op_sort_by_expert(Args& args, const KernelTable& kernels) {
  SortByExpert p = {};
  p.tokens = args.dim(6, "tokens"), p.k = args.dim(7, "k"), p.experts = args.dim(8, "experts");
  const int64_t slots = product(p.tokens, p.k);
  p.experts_TK = args.in<int32_t>(5, "experts", slots);
  args.check_range(p.experts_TK, slots, "experts", INT32_MIN, p.experts - 1);
  int64_t routed = 0;
  for (int64_t i = 0; args.ok() && i < slots; i++) routed += p.experts_TK[i] >= 0;
  p.rows = args.integer(9, "rows", routed, INT32_MAX);
  p.offsets_E = args.out<int32_t>(1, "offsets", p.experts + 1);
  p.slots_N = args.out<int32_t>(2, "slots", p.rows);
  p.tokens_N = args.out<int32_t>(3, "tokens", p.rows);
  p.positions_TK = args.out<int32_t>(4, "positions", slots);
  if (args.ok()) kernels.sort_by_expert(p);
}

const NumericOp ops[] = {
    {"norm", op_norm, 10}, {"normBackward", op_norm_backward, 15}, {"rope", op_rope, 13}, {"glu", op_glu, 14}, {"gluBackward", op_glu_backward, 16},
    {"gatherRows", op_gather_rows, 8}, {"scatterAddRows", op_scatter_add_rows, 7}, {"combineRows", op_combine_rows, 10},
    {"crossEntropy", op_cross_entropy, 6}, {"crossEntropyBackward", op_cross_entropy_backward, 7}, {"topK", op_top_k, 10},
    {"gatherColumns", op_gather_columns, 7}, {"scatterColumns", op_scatter_columns, 8}, {"sortByExpert", op_sort_by_expert, 10},
};

}  // namespace

void export_row_ops(napi_env env, napi_value exports) { export_ops(env, exports, ops); }

}  // namespace sw
