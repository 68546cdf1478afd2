#include "binding.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "../core/memory.h"

namespace sw {

Args::Args(const Command& command, const NumericOp& op) : env_(nullptr), error_(command.error), op_(op.name) {
  for (int i = 0; i < op.arguments; i++) values_[i] = i < command.count ? command.values[i] : 0;
  if (command.count != op.arguments) fail("expected %d arguments, got %d", op.arguments, command.count);
  if (command.list_length == 0) return;
  list_ = command.list;
  list_length_ = command.list_length;
  if (op.list < 0) fail("all arguments must be numbers (a tensor of another engine?)");
}

Args::Args(napi_env env, napi_callback_info info, const char* op, int expected, int list) : env_(env), op_(op) {
  napi_value arguments[kMax];
  size_t count = kMax;
  napi_get_cb_info(env_, info, &count, arguments, nullptr, nullptr);
  for (int i = 0; i < expected; i++) values_[i] = 0;
  if ((int)count != expected) fail("expected %d arguments, got %zu", expected, count);
  for (int i = 0; i < expected && !failed_; i++) {
    napi_typedarray_type type;
    void* data;
    if (i == list && napi_get_typedarray_info(env_, arguments[i], &type, &list_length_, &data, nullptr, nullptr) == napi_ok) {
      if (type != napi_float64_array) fail("argument %d must be a Float64Array", i);
      list_ = (const double*)data;
      continue;
    }
    if (napi_get_value_double(env_, arguments[i], &values_[i]) != napi_ok) fail("argument %d must be a number (a tensor of another engine?)", i);
  }
}

void Args::fail(const char* format, ...) {
  if (failed_) return;
  failed_ = true;
  char message[kMostError];
  int length = snprintf(message, sizeof message, "%s: ", op_);
  va_list list;
  va_start(list, format);
  vsnprintf(message + length, sizeof message - length, format, list);
  va_end(list);
  if (!error_) napi_throw_error(env_, "ERR_SWITCHYARD_ENGINE", message);
  else if (error_[0] == 0) memcpy(error_, message, sizeof message);
}

int64_t Args::integer(int i, const char* name, int64_t low, int64_t high) {
  const double x = values_[i];
  if (x >= (double)low && x <= (double)high && x == trunc(x)) return (int64_t)x;
  fail("%s must be an integer from %lld to %lld, got %g", name, (long long)low, (long long)high, x);
  return 0;
}

const KernelTable& Args::kernels(int i) {
  const KernelTable* table = kernel_table((int)integer(i, "isa", 0, kIsaCount - 1));
  if (table == nullptr) fail("this machine cannot run kernel variant %g", values_[i]);
  return table ? *table : kernels_x86_64;
}

void* Args::address(int i, const char* name, int64_t bytes, int64_t alignment, bool writable) {
  if (failed_ || bytes == 0) return nullptr;
  return address_of((double)integer(i, name, 0, 1LL << 52), name, bytes, alignment, writable);
}

void* Args::address_of(double value, const char* name, int64_t bytes, int64_t alignment, bool writable) {
  if (failed_) return nullptr;
  const uintptr_t address = value >= 0 && value < 4503599627370496.0 ? (uintptr_t)value : 0;
  if (address % alignment == 0 && is_live(address, bytes, writable)) return (void*)address;
  fail("%s: %lld bytes at 0x%llx are not inside live %smemory of this engine", name, (long long)bytes, (unsigned long long)address,
       writable ? "writable " : "");
  return nullptr;
}

const void* Args::weights(int i, const char* name, StoredType type, int64_t matrices, int64_t n, int64_t k) {
  if (k % kBlockSizes[type].elements != 0) fail("%s: %lld columns are not whole blocks of %d", name, (long long)k, kBlockSizes[type].elements);
  return address(i, name, product(matrices, n, row_bytes(type, k)), type == kFloat ? 4 : 1, false);
}

const double* Args::weights_list(int i, const char* name, bool late, int64_t lists, int64_t groups, const int32_t* offsets, StoredType type, int64_t n, int64_t k) {
  const double* list = late ? in<double>(i, name, product(lists, groups)) : list_;
  if (failed_ || list == nullptr) return nullptr;
  if (!late && (int64_t)list_length_ != lists * groups) fail("%s: expected %lld addresses, got %zu", name, (long long)(lists * groups), list_length_);
  if (k % kBlockSizes[type].elements != 0) fail("%s: %lld columns are not whole blocks of %d", name, (long long)k, kBlockSizes[type].elements);
  for (int64_t j = 0; j < lists * groups && !failed_; j++) {
    const int64_t e = j % groups;
    if (offsets[e + 1] > offsets[e]) address_of(late ? fabs(list[j]) : list[j], name, product(n, row_bytes(type, k)), type == kFloat ? 4 : 1, false);
  }
  return list;
}

void Args::check_range(const int32_t* x, int64_t count, const char* name, int64_t low, int64_t high) {
  if (failed_ || x == nullptr || count == 0) return;
  int32_t least = x[0], most = x[0];
  for (int64_t i = 1; i < count; i++) {
    least = x[i] < least ? x[i] : least;
    most = x[i] > most ? x[i] : most;
  }
  if (least < low || most > high) fail("%s must hold values from %lld to %lld, found %d", name, (long long)low, (long long)high, least < low ? least : most);
}

void Args::check_offsets(const int32_t* offsets, int64_t groups, const char* name, int64_t high) {
  if (failed_ || offsets == nullptr) return;
  for (int64_t e = 0; e < groups; e++) {
    if (offsets[e] > offsets[e + 1]) return fail("%s must not fall, but %s[%lld] = %d and then %d", name, name, (long long)e, offsets[e], offsets[e + 1]);
  }
  if (groups == 0 && offsets[0] != 0) return fail("%s of no group must be 0, not %d", name, offsets[0]);
  if (offsets[0] < 0 || offsets[groups] > high) fail("%s must lie in 0..%lld, but run from %d to %d", name, (long long)high, offsets[0], offsets[groups]);
}

bool take_path(napi_env env, napi_callback_info info, Path& path) {
  napi_value value;
  size_t count = 1, length = 0;
  napi_get_cb_info(env, info, &count, &value, nullptr, nullptr);
  // A name that was cut off fills all of `path`.
  return count == 1 && napi_get_value_string_utf8(env, value, path, sizeof path, &length) == napi_ok && length < sizeof path - 1 && strlen(path) == length;
}

napi_value to_number(napi_env env, double x) {
  napi_value value;
  napi_create_double(env, x, &value);
  return value;
}

static void export_function(napi_env env, napi_value exports, const char* name, napi_callback fn, const void* data) {
  napi_value value;
  napi_create_function(env, name, NAPI_AUTO_LENGTH, fn, const_cast<void*>(data), &value);
  napi_set_named_property(env, exports, name, value);
}

void export_op(napi_env env, napi_value exports, const Op& op) { export_function(env, exports, op.name, op.fn, nullptr); }

static napi_value call(napi_env env, napi_callback_info info) {
  void* data;
  napi_get_cb_info(env, info, nullptr, nullptr, nullptr, &data);
  const NumericOp& op = *(const NumericOp*)data;
  Args args(env, info, op.name, op.arguments, op.list);
  op.run(args, args.kernels());
  return args.stopped() == 0 ? nullptr : to_number(env, (double)args.stopped());
}

void export_op(napi_env env, napi_value exports, const NumericOp& op) {
  export_function(env, exports, op.name, call, &op);
  add_command(op);
}

const KernelTable* kernel_table(int isa) {
  static const KernelTable* const tables[kIsaCount] = {&kernels_x86_64, &kernels_avx2, &kernels_avx512, &kernels_avx512_bf16};
  // Computed once; writing the same values twice from two threads is harmless.
  static bool known[kIsaCount], supported[kIsaCount];
  if (!__atomic_load_n(&known[isa], __ATOMIC_ACQUIRE)) {
    supported[isa] = cpu_supports((Isa)isa);
    __atomic_store_n(&known[isa], true, __ATOMIC_RELEASE);
  }
  return supported[isa] ? tables[isa] : nullptr;
}

}  // namespace sw
