// Entry point of the addon.
#include "../core/pool.h"
#include "binding.h"

namespace sw {
namespace {

// isas(): names of the kernel variants, in the order of their indices; null for one that this machine cannot run.
napi_value isas(napi_env env, napi_callback_info) {
  napi_value list;
  napi_create_array_with_length(env, kIsaCount, &list);
  for (int i = 0; i < kIsaCount; i++) {
    const KernelTable* table = kernel_table(i);
    napi_value name;
    if (table) napi_create_string_utf8(env, table->name, NAPI_AUTO_LENGTH, &name);
    else napi_get_null(env, &name);
    napi_set_element(env, list, i, name);
  }
  return list;
}

// threads(n): sets the number of threads unless n is 0; returns it.
napi_value threads(napi_env env, napi_callback_info info) {
  Args args(env, info, "threads", 1);
  const int64_t wanted = args.integer(0, "threads", 0, kMaxThreads);
  if (!args.ok()) return nullptr;
  if (wanted > 0) set_thread_count((int)wanted);
  return to_number(env, thread_count());
}

// version(): what load.ts compares with its own number, so that an addon of other sources is refused at load and not at its first other op.
// To be raised with `addonVersion` of src/engine/native-addon.ts when an op comes, goes, or takes or means something else.
napi_value version(napi_env env, napi_callback_info) { return to_number(env, 2); }

const Op ops[] = {{"isas", isas}, {"threads", threads}, {"version", version}};

}  // namespace
}  // namespace sw

NAPI_MODULE_INIT() {
  sw::export_ops(env, exports, sw::ops);
  sw::export_lists(env, exports);
  sw::export_measures(env, exports);
  sw::export_memory(env, exports);
  sw::export_reads(env, exports);
  sw::export_matrix_ops(env, exports);
  sw::export_demand(env, exports);
  sw::export_mixer_ops(env, exports);
  sw::export_repacking(env, exports);
  sw::export_row_ops(env, exports);
  sw::export_elementwise_ops(env, exports);
  return exports;
}
