// Memory: regions, mapped files, and moving elements between engine memory and V8.
#include "../core/memory.h"

#include <errno.h>
#include <string.h>

#include "../core/pool.h"
#include "binding.h"

namespace sw {
namespace {

// Large fills and copies are split into tasks of this many bytes.
constexpr int64_t kChunk = 1 << 20;

// allocate(bytes): address, or 0 when there is no memory.
napi_value op_allocate(napi_env env, napi_callback_info info) {
  Args args(env, info, "allocate", 1);
  const int64_t bytes = args.integer(0, "bytes", 0, 1LL << 52);
  return args.ok() ? to_number(env, (double)allocate(bytes)) : nullptr;
}

// mapFile(path): { address, bytes }, or the system's error number.
napi_value op_map_file(napi_env env, napi_callback_info info) {
  Path path;
  if (!take_path(env, info, path)) return to_number(env, EINVAL);
  size_t bytes = 0;
  const uintptr_t address = map_file(path, &bytes);
  if (address == 0) return to_number(env, errno);
  napi_value result;
  napi_create_object(env, &result);
  napi_set_named_property(env, result, "address", to_number(env, (double)address));
  napi_set_named_property(env, result, "bytes", to_number(env, (double)bytes));
  return result;
}

// release(address)
napi_value op_release(napi_env env, napi_callback_info info) {
  Args args(env, info, "release", 1);
  const int64_t address = args.integer(0, "address", 0, 1LL << 52);
  if (args.ok() && !release(address)) args.fail("no live region starts at 0x%llx", (unsigned long long)address);
  return nullptr;
}

// read(typedArray, address) and write(address, typedArray): the array's length decides.
napi_value transfer(napi_env env, napi_callback_info info, bool to_engine) {
  napi_value arguments[2];
  size_t count = 2, elements = 0;
  void* data = nullptr;
  double address = 0;
  napi_typedarray_type type;
  napi_get_cb_info(env, info, &count, arguments, nullptr, nullptr);
  const napi_value array = arguments[to_engine ? 1 : 0], number = arguments[to_engine ? 0 : 1];
  if (count < 2 || napi_get_typedarray_info(env, array, &type, &elements, &data, nullptr, nullptr) != napi_ok ||
      napi_get_value_double(env, number, &address) != napi_ok || !(address >= 0 && address < 4503599627370496.0)) {
    napi_throw_error(env, "ERR_SWITCHYARD_ENGINE", to_engine ? "write: expected (address, typed array)" : "read: expected (typed array, address)");
    return nullptr;
  }
  const size_t bytes = elements * (type == napi_float64_array ? 8 : type == napi_float32_array || type == napi_int32_array ? 4 : 1);
  if (bytes == 0) return nullptr;
  if (!is_live((uintptr_t)address, bytes, to_engine)) {
    napi_throw_error(env, "ERR_SWITCHYARD_ENGINE", to_engine ? "write: not inside live writable memory of this engine" : "read: not inside live memory of this engine");
    return nullptr;
  }
  if (to_engine) memcpy((void*)(uintptr_t)address, data, bytes);
  else memcpy(data, (const void*)(uintptr_t)address, bytes);
  return nullptr;
}
napi_value op_read(napi_env env, napi_callback_info info) { return transfer(env, info, false); }
napi_value op_write(napi_env env, napi_callback_info info) { return transfer(env, info, true); }

// advise(address, bytes, needed): see memory.h.
napi_value op_advise(napi_env env, napi_callback_info info) {
  Args args(env, info, "advise", 3);
  const int64_t bytes = args.integer(1, "bytes", 0, 1LL << 52);
  const char* const start = args.in<char>(0, "address", bytes);
  if (args.ok()) advise((uintptr_t)start, bytes, args.integer(2, "needed", 0, 1) != 0);
  return nullptr;
}

// fileWasCut(): see memory.h.
napi_value op_file_was_cut(napi_env env, napi_callback_info) {
  napi_value value;
  napi_get_boolean(env, file_was_cut(), &value);
  return value;
}

struct Span {
  char* out;
  const char* in;  // copy; null for a fill
  int64_t bytes, element;
  char pattern[8];
};

void span_task(void* context, int64_t task) {
  const Span& s = *(const Span*)context;
  const int64_t begin = task * kChunk, bytes = s.bytes - begin < kChunk ? s.bytes - begin : kChunk;
  char* out = s.out + begin;
  if (s.in) {
    memcpy(out, s.in + begin, bytes);
  } else if (s.element == 8) {
    for (int64_t i = 0; i < bytes; i += 8) memcpy(out + i, s.pattern, 8);
  } else {
    for (int64_t i = 0; i < bytes; i += 4) memcpy(out + i, s.pattern, 4);
  }
}

// copy(isa, out, x, bytes): ranges that are equal or do not overlap.
void op_copy(Args& args, const KernelTable&) {
  const int64_t bytes = args.integer(3, "bytes", 0, 1LL << 52);
  Span span = {args.out<char>(1, "out", bytes), args.in<char>(2, "x", bytes), bytes, 1, {}};
  if (args.ok() && span.out != span.in) parallel_for((bytes + kChunk - 1) / kChunk, span_task, &span);
}

// fill(isa, out, elements, value, dtype): dtype 0 f32, 1 f64, 2 i32.
void op_fill(Args& args, const KernelTable&) {
  const int64_t dtype = args.integer(4, "dtype", 0, 2), element = dtype == 1 ? 8 : 4;
  const int64_t bytes = product(args.integer(2, "elements", 0, 1LL << 49), element);
  Span span = {args.out<char>(1, "out", bytes), nullptr, bytes, element, {}};
  const double value = args.number(3);
  if (dtype == 2) {
    const int32_t x = (int32_t)args.integer(3, "value", INT32_MIN, INT32_MAX);
    memcpy(span.pattern, &x, 4);
  } else if (dtype == 0) {
    const float x = (float)value;
    memcpy(span.pattern, &x, 4);
  } else {
    memcpy(span.pattern, &value, 8);
  }
  if (args.ok()) parallel_for((bytes + kChunk - 1) / kChunk, span_task, &span);
}

const Op ops[] = {{"allocate", op_allocate}, {"mapFile", op_map_file}, {"release", op_release}, {"read", op_read},
                  {"write", op_write},       {"advise", op_advise},     {"fileWasCut", op_file_was_cut}};
const NumericOp computing[] = {{"copy", op_copy, 4}, {"fill", op_fill, 5}};

}  // namespace

void export_memory(napi_env env, napi_value exports) {
  export_ops(env, exports, ops);
  export_ops(env, exports, computing);
}

}  // namespace sw
