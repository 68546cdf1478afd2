// Matrix products and attention.
#include "../core/reads.h"
#include "binding.h"

namespace sw {
namespace {

// How far apart rows of out are, and what b holds: arguments i and i + 1 of both products; `products` of them stand side by side. Rows of an out that
// is wider than the result end where its last row's result ends.
void out_and_type(Args& args, int i, Matmul& p, int64_t products = 1) {
  p.ld_out = args.integer(i, "columns of out", product(products, p.n), INT32_MAX);
  p.type = (StoredType)args.integer(i + 1, "type of b", kFloat, kLastType);
  if (p.type != kFloat && p.form != kNT) args.fail("b may be quantised or of half width in form nt only");
}
int64_t spread(int64_t rows, const Matmul& p, int64_t products = 1) { return rows == 0 ? 0 : product(rows, p.ld_out) - (p.ld_out - products * p.n); }

// matmul(isa, form, out, a, b, m, n, k, accumulate, precision, ldOut, type); precision: 0 f32, 1 bf16, 2 f64
void op_matmul(Args& args, const KernelTable& kernels) {
  const int64_t m = args.dim(5, "m"), n = args.dim(6, "n"), k = args.dim(7, "k");
  Matmul p = {};
  p.form = (MatmulForm)args.integer(1, "form", kNT, kTN);
  p.m = m, p.n = n, p.k = k, p.rows = m;
  out_and_type(args, 10, p);
  p.out = args.out<float>(2, "out", spread(m, p));
  p.a = args.in<float>(3, "a", product(m, k));
  p.b = args.weights(4, "b", p.type, 1, p.form == kNT ? n : k, p.form == kNT ? k : n);
  const int64_t precision = args.integer(9, "precision", 0, p.form == kNT && p.type == kFloat ? 2 : 1);
  p.accumulate = args.flag(8), p.bf16 = precision == 1, p.f64 = precision == 2;
  p.groups = 1;
  if (args.ok()) kernels.matmul(p);
}

// matmuls(isa, a, m, k, bf16, type, then three times out, b, n, ldOut): products of one a in form nt; b is 0 where there is none.
void op_matmuls(Args& args, const KernelTable& kernels) {
  const int64_t m = args.dim(2, "m"), k = args.dim(3, "k");
  Matmul all[3] = {};
  for (int i = 0, at = 6; i < 3 && (i == 0 || args.number(at + 1) != 0); i++, at += 4) {
    Matmul& p = all[i];
    p.m = m, p.n = args.dim(at + 2, "n"), p.k = k, p.rows = m, p.groups = 1, p.bf16 = args.flag(4);
    p.type = (StoredType)args.integer(5, "type of b", kFloat, kLastType);
    p.ld_out = args.integer(at + 3, "columns of out", p.n, INT32_MAX);
    p.a = args.in<float>(1, "a", product(m, k));
    p.out = args.out<float>(at, "out", spread(m, p));
    p.b = args.weights(at + 1, "b", p.type, 1, p.n, k);
    if (i > 0) all[i - 1].beside = &p;
  }
  if (args.ok()) kernels.matmul(all[0]);
}

// Products with the matrices that are there, and then with those that were still being read, `second` among them if it stands beside p.
void matmul_late(const KernelTable& kernels, Matmul& p, Matmul& second) {
  const auto coming = [&](const Matmul& q, bool wait) {
    bool any = false;
    for (int64_t e = 0; e < q.groups; e++) {
      if (q.offsets_E[e + 1] > q.offsets_E[e] && q.b_E[e] < 0) any |= is_being_read((const char*)(uintptr_t)-q.b_E[e], q.n * row_bytes(q.type, q.k), wait);
    }
    return any;
  };
  const auto any = [&](bool wait) { return coming(p, wait) | (p.beside && coming(second, wait)); };
  if (any(false)) {
    p.only = second.only = 1;
    kernels.matmul(p);
    any(true);
    p.only = second.only = -1;
  }
  kernels.matmul(p);
}

// groupedMatmul(isa, form, out, a, b, m, n, k, accumulate, bf16, ldOut, type, groups, offsets, rowsA, rowsB, rows, aRows, bRows, lists): b (nt, nn)
// is an address or a list of one address per group, or two such lists one after the other whose results stand side by side; `rows` is the length
// of rowsA and rowsB and the number of ragged rows that out (nt, nn) has or that a and b (tn) have when not gathered; aRows and bRows
// are the rows of a and b themselves. After these 12 arguments of adamW for an update of b, or zeros, an address for the sum of squares, or 0,
// and whether b is where a list of addresses stands, which are negated while the matrices are being read.
void op_grouped_matmul(Args& args, const KernelTable& kernels) {
  const int64_t m = args.dim(5, "m"), n = args.dim(6, "n"), k = args.dim(7, "k"), groups = args.dim(12, "groups");
  const int64_t rows = args.dim(16, "rows"), rows_of_a = args.dim(17, "aRows"), rows_of_b = args.dim(18, "bRows");
  Matmul p = {};
  AdamW update = {};
  if (args.number(20) != 0) update = adam_w_arguments(args, 20), p.update = &update;
  const bool can_update = p.update && args.ok();
  p.form = (MatmulForm)args.integer(1, "form", kNT, kTN);
  const bool tn = p.form == kTN;
  p.m = m, p.n = n, p.k = k, p.rows = rows_of_a;
  const int64_t lists = args.integer(19, "lists", 1, p.form == kNT ? 2 : 1);
  out_and_type(args, 10, p, lists);
  p.out = args.out<float>(2, "out", spread(tn ? product(groups, m) : rows, p, lists));
  p.a = args.in<float>(3, "a", product(rows_of_a, tn ? m : k));
  const int64_t rows_of_matrix = tn ? rows_of_b : p.form == kNT ? n : k, columns_of_matrix = tn || p.form == kNN ? n : k;
  p.accumulate = args.flag(8), p.bf16 = args.flag(9);
  p.groups = groups;
  p.offsets_E = args.in<int32_t>(13, "offsets", groups + 1);
  p.rows_a = args.in_or_null<int32_t>(14, "rowsA", rows);
  p.rows_b = args.in_or_null<int32_t>(15, "rowsB", rows);
  int64_t most = rows;
  if (!p.rows_a && rows_of_a < most) most = rows_of_a;
  if (tn && !p.rows_b && rows_of_b < most) most = rows_of_b;
  args.check_offsets(p.offsets_E, groups, "offsets", most);
  p.b_E = args.weights_list(4, "b", args.flag(33), lists, groups, p.offsets_E, p.type, rows_of_matrix, columns_of_matrix);
  if (!p.b_E) p.b = args.weights(4, "b", p.type, tn ? 1 : groups, rows_of_matrix, columns_of_matrix);
  if (tn && p.b_E) args.fail("b must be one tensor in form tn");
  if (lists > 1 && !p.b_E) args.fail("two lists of b are expected as one of addresses");
  if (p.update && (p.form != kNT || p.type != kFloat || !p.b || update.param != p.b || update.n != product(groups, n, k))) args.fail("an update is for the whole of b in form nt");
  p.squares = args.out_or_null<double>(32, "squares", 1);
  if (p.squares && (!tn || p.accumulate)) args.fail("squares are for form tn without accumulate");
  const int64_t used = args.ok() ? p.offsets_E[groups] : 0;
  args.check_range(p.rows_a, used, "rowsA", 0, rows_of_a - 1);
  args.check_range(p.rows_b, used, "rowsB", 0, rows_of_b - 1);
  Matmul second = p;
  second.out += p.n, second.b_E += groups;
  if (lists > 1) p.beside = &second;
  if (args.ok() && args.flag(33)) matmul_late(kernels, p, second);
  else if (args.ok()) kernels.matmul(p);
  else if (can_update) kernels.adam_w(update);  // nobody else will: it must not be lost because the product fails
}

// Of the arguments from `i`: batch, queries, keys, keyStride, heads, kvHeads, headDim, valueDim, scale, causal, window, chunk, then sinks or
// 0, bias or 0, the bias' sheets of sequences and of heads, the type of k and v, whether q.k is summed in f64, and valueStride.
Attention attention_dims(Args& args, int i) {
  Attention p = {};
  p.causal = args.flag(i + 9);
  p.batch = args.dim(i, "batch"), p.queries = args.dim(i + 1, "queries");
  p.keys = args.integer(i + 2, "keys", p.causal ? p.queries : 0, INT32_MAX), p.key_stride = args.integer(i + 3, "keyStride", p.keys, INT32_MAX);
  p.heads = args.dim(i + 4, "heads"), p.kv_heads = args.integer(i + 5, "kvHeads", 1, INT32_MAX);
  p.head_dim = args.dim(i + 6, "headDim"), p.value_dim = args.dim(i + 7, "valueDim");
  p.value_stride = args.integer(i + 18, "valueStride", product(p.kv_heads, p.value_dim), INT32_MAX);
  p.scale = (float)args.number(i + 8), p.window = args.dim(i + 10, "window"), p.chunk = args.dim(i + 11, "chunk");
  p.type = (StoredType)args.integer(i + 16, "type of k and v", kFloat, kHalf);
  p.f64 = args.integer(i + 17, "f64", 0, p.type == kFloat) != 0;
  p.sinks_H = args.in_or_null<float>(i + 12, "sinks", p.heads);
  const int64_t sequences = args.integer(i + 14, "biasSequences", 1, p.batch > 1 ? p.batch : 1), heads = args.integer(i + 15, "biasHeads", 1, p.heads > 1 ? p.heads : 1);
  if (sequences > 1 && sequences != p.batch) args.fail("the bias must be for 1 sequence or for each, got %lld", (long long)sequences);
  if (heads > 1 && heads != p.heads) args.fail("the bias must be for 1 head or for each, got %lld", (long long)heads);
  p.bias = args.in_or_null<float>(i + 13, "bias", product(sequences, heads, p.queries, p.keys));
  p.bias_head = heads > 1 ? p.queries * p.keys : 0, p.bias_batch = sequences > 1 ? heads * p.queries * p.keys : 0;
  if (p.kv_heads > 0 && p.heads % p.kv_heads != 0) args.fail("heads (%lld) must be a multiple of kvHeads (%lld)", (long long)p.heads, (long long)p.kv_heads);
  if (product(p.queries, p.heads) > INT32_MAX) args.fail("queries * heads must be below 2^31");
  return p;
}

// attention(isa, out, lse, q, k, v, ...)
void op_attention(Args& args, const KernelTable& kernels) {
  Attention p = attention_dims(args, 6);
  const int64_t rows = product(p.batch, p.queries, p.heads), cache = product(p.batch, p.key_stride, p.kv_heads);
  p.out = args.out<float>(1, "out", product(rows, p.value_dim));
  p.lse = args.out<float>(2, "lse", rows);
  p.q = args.in<float>(3, "q", product(rows, p.head_dim));
  p.k = args.weights(4, "k", p.type, 1, cache, p.head_dim);
  p.v = args.weights(5, "v", p.type, 1, product(p.batch, p.key_stride), p.value_stride);
  if (args.ok() && rows > 0) kernels.attention(p);
}

// attentionBackward(isa, dq, dk, dv, dsinks or 0, dout, q, k, v, out, lse, ...)
void op_attention_backward(Args& args, const KernelTable& kernels) {
  Attention p = attention_dims(args, 11);
  if (p.type != kFloat) args.fail("k and v must be f32");
  const int64_t rows = product(p.batch, p.queries, p.heads), cache = product(p.batch, p.key_stride, p.kv_heads);
  p.dq = args.out<float>(1, "dq", product(rows, p.head_dim));
  p.dk = args.out<float>(2, "dk", product(cache, p.head_dim));
  p.dv = args.out<float>(3, "dv", product(cache, p.value_dim));
  p.dsinks_H = args.out_or_null<float>(4, "dsinks", p.heads);
  p.dout = args.in<float>(5, "dout", product(rows, p.value_dim));
  p.q = args.in<float>(6, "q", product(rows, p.head_dim));
  p.k = args.in<float>(7, "k", product(cache, p.head_dim));
  p.v = args.in<float>(8, "v", product(cache, p.value_dim));
  p.out = const_cast<float*>(args.in<float>(9, "out", product(rows, p.value_dim)));  // only read
  p.lse = const_cast<float*>(args.in<float>(10, "lse", rows));                       // only read
  if (p.dsinks_H && !p.sinks_H) args.fail("dsinks needs sinks");
  if (p.value_stride != p.kv_heads * p.value_dim) args.fail("values must stand side by side");
  if (p.key_stride != p.keys) args.fail("keyStride must equal keys (%lld), got %lld", (long long)p.keys, (long long)p.key_stride);
  if (args.ok() && rows > 0) kernels.attention_backward(p);
}

// narrow(isa, out, x, n): f32 to binary16.
void op_narrow(Args& args, const KernelTable& kernels) {
  const int64_t n = args.integer(3, "n", 0, 1LL << 52);
  uint16_t* out = args.out<uint16_t>(1, "out", n);
  const float* x = args.in<float>(2, "x", n);
  if (args.ok()) kernels.narrow(out, x, n);
}

const NumericOp ops[] = {{"matmul", op_matmul, 12}, {"matmuls", op_matmuls, 18}, {"groupedMatmul", op_grouped_matmul, 34, 4}, {"attention", op_attention, 25},
                  {"attentionBackward", op_attention_backward, 30}, {"narrow", op_narrow, 4}};

}  // namespace

void export_matrix_ops(napi_env env, napi_value exports) { export_ops(env, exports, ops); }

}  // namespace sw
