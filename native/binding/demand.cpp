// Experts that may not be in memory when the products come that need them: see demand in src/engine/native-products.ts.
#include "binding.h"

namespace sw {
namespace {

// demand(isa, offsets, experts, there, rows, likely or 0, choices, thereNext or 0, always, number): writes how many rows each expert has, offsets[e + 1] -
// offsets[e], to `rows`. Stops with `number` if one with rows has no address in `there`, one of the `choices` numbers of experts in `likely` has none in
// `thereNext`, rows[0] was negative, or `always`.
void op_demand(Args& args, const KernelTable&) {
  const int64_t experts = args.integer(2, "experts", 1, INT32_MAX), choices = args.dim(6, "choices"), number = args.integer(9, "number", 1, 1LL << 52);
  const int32_t* offsets = args.in<int32_t>(1, "offsets", experts + 1);
  const double* there = args.in<double>(3, "there", experts);
  int32_t* rows = args.out<int32_t>(4, "rows", experts);
  const int32_t* likely = args.in_or_null<int32_t>(5, "likely", choices);
  const double* there_next = args.in_or_null<double>(7, "thereNext", experts);
  if (likely && !there_next) args.fail("likely needs thereNext");
  args.check_offsets(offsets, experts, "offsets", INT32_MAX);
  args.check_range(likely, choices, "likely", -1, experts - 1);
  if (!args.ok()) return;
  bool missing = args.flag(8) || rows[0] < 0;
  for (int64_t e = 0; e < experts; e++) {
    rows[e] = offsets[e + 1] - offsets[e];
    missing |= rows[e] > 0 && there[e] == 0;
  }
  for (int64_t i = 0; likely && i < choices; i++) missing |= likely[i] >= 0 && there_next[likely[i]] == 0;
  if (missing) args.stop(number);
}

const NumericOp ops[] = {{"demand", op_demand, 10}};

}  // namespace

void export_demand(napi_env env, napi_value exports) { export_ops(env, exports, ops); }

}  // namespace sw
