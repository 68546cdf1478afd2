// Weights of files in the layout of products: core/repack.h.
#include "../core/repack.h"

#include "binding.h"

namespace sw {
namespace {

// repack(out, type, rowsOfOut, elements, scales or 0, rows, cols, places or 0, scaleType, blockRows, blockCols)
napi_value op_repack(napi_env env, napi_callback_info info) {
  Args args(env, info, "repack", 11);
  Repack p = {};
  p.type = (StoredType)args.integer(1, "type of out", kHalf, kLastType);
  const bool is_half = p.type == kHalf || p.type == kBfloat, is_fp8 = p.type == kE4m3 || p.type == kE5m2;
  if (!is_half && !is_fp8 && p.type != kMxfp4) args.fail("out must be f16, bf16, mxfp4 or of 8-bit floats");
  const int64_t out_rows = args.dim(2, "rows of out");
  p.rows = args.dim(5, "rows"), p.cols = args.dim(6, "cols");
  if (p.cols % kBlockSizes[p.type].elements != 0) args.fail("rows of %lld elements are no whole blocks", (long long)p.cols);
  p.scale_type = (StoredType)args.integer(8, "type of scales", kFloat, kBfloat);
  p.block_rows = args.integer(9, "blockRows", is_fp8 ? 1 : 0, INT32_MAX), p.block_cols = args.integer(10, "blockCols", is_fp8 ? 1 : 0, INT32_MAX);
  if (p.scale_type == kHalf || (is_fp8 && p.block_cols % kBlockSizes[p.type].elements != 0)) args.fail("scales must be f32 or bf16, and each for a multiple of 128 columns");
  if (!args.ok()) return nullptr;
  p.out = args.out<char>(0, "out", product(out_rows, row_bytes(p.type, p.cols)));
  p.elements = args.in<char>(3, "elements", product(p.rows, is_half ? 2 * p.cols : is_fp8 ? p.cols : p.cols / 2));
  if (!is_half) p.scales = args.in<char>(4, "scales", scale_bytes(p));
  p.places = args.in_or_null<int32_t>(7, "places", p.rows);
  args.check_range(p.places, p.rows, "places", INT32_MIN, out_rows - 1);
  if (!p.places && p.rows > out_rows) args.fail("%lld rows do not fit in %lld", (long long)p.rows, (long long)out_rows);
  if (args.ok()) repack(p);
  return nullptr;
}

const Op ops[] = {{"repack", op_repack}};

}  // namespace

void export_repacking(napi_env env, napi_value exports) { export_ops(env, exports, ops); }

}  // namespace sw
