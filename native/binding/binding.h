// What every op of the addon shares: an op takes numbers (addresses, dimensions, flags), checks each of them, and throws a JavaScript
// error naming the op and the argument when one does not hold.
#pragma once

#define NAPI_VERSION 8
#include <node_api.h>
#include <stdint.h>

#include "../kernels/table.h"

namespace sw {

// Products of dimensions saturate, so that an overflow fails the address check instead of passing it.
inline int64_t product(int64_t a, int64_t b) {
  int64_t result;
  return __builtin_mul_overflow(a, b, &result) ? INT64_MAX : result;
}
template <class... Rest>
int64_t product(int64_t a, int64_t b, Rest... rest) {
  return product(product(a, b), rest...);
}

class Args;
// An op that returns nothing, unless it stops. Its first argument is the index of a kernel table; JavaScript calls it, or has it wait in a list (commands.cpp).
struct NumericOp {
  const char* name;
  void (*run)(Args& args, const KernelTable& kernels);
  int arguments;
  int list = -1;  // the argument that may be a Float64Array of addresses instead of a number
};

// The arguments of an op that is run from a list: see commands.cpp.
struct Command {
  const double* values;
  int count;
  const double* list;
  size_t list_length;
  char* error;  // [kMostError]: takes the message of what fails first in its list, which is thrown later; empty so far
};
constexpr int kMostError = 384;

// The numeric arguments of one call. The first failure is kept and thrown; after it accessors return zero.
class Args {
 public:
  static constexpr int kMax = 40;

  // Argument `list`, if any, may be a Float64Array of addresses instead of a number.
  Args(napi_env env, napi_callback_info info, const char* op, int expected, int list = -1);
  Args(const Command& command, const NumericOp& op);

  bool ok() const { return !failed_; }
  double number(int i) const { return values_[i]; }
  const double* list() const { return list_; }
  int64_t list_length() const { return (int64_t)list_length_; }
  bool flag(int i) const { return values_[i] != 0; }
  // An integer in [low, high].
  int64_t integer(int i, const char* name, int64_t low, int64_t high);
  // A dimension: an integer in [0, 2^31).
  int64_t dim(int i, const char* name) { return integer(i, name, 0, INT32_MAX); }
  const KernelTable& kernels(int i = 0);

  // `elements` of T in live engine memory; out() demands that they may be written.
  template <class T>
  const T* in(int i, const char* name, int64_t elements) {
    return (const T*)address(i, name, product(elements, sizeof(T)), sizeof(T), false);
  }
  template <class T>
  T* out(int i, const char* name, int64_t elements) {
    return (T*)address(i, name, product(elements, sizeof(T)), sizeof(T), true);
  }
  // The same, or null when the argument is 0.
  template <class T>
  const T* in_or_null(int i, const char* name, int64_t elements) {
    return values_[i] == 0 ? nullptr : in<T>(i, name, elements);
  }
  template <class T>
  T* out_or_null(int i, const char* name, int64_t elements) {
    return values_[i] == 0 ? nullptr : out<T>(i, name, elements);
  }

  // Matrices of n rows and k columns of a stored type (a multiple of 4 bytes for f32, any address for others).
  const void* weights(int i, const char* name, StoredType type, int64_t matrices, int64_t n, int64_t k);
  // The list of `lists` times `groups` addresses, each of such a matrix if offsets[e + 1] > offsets[e] for its group e, so that it is used. If they are `late`,
  // argument i says where they stand in engine memory; otherwise they are a Float64Array, and the result is null when a number was given.
  const double* weights_list(int i, const char* name, bool late, int64_t lists, int64_t groups, const int32_t* offsets, StoredType type, int64_t n, int64_t k);

  // Index arrays: every value in [low, high]; or rising from at least 0 to at most `high`. Null passes.
  void check_range(const int32_t* x, int64_t count, const char* name, int64_t low, int64_t high);
  void check_offsets(const int32_t* offsets, int64_t groups, const char* name, int64_t high);

  void fail(const char* format, ...) __attribute__((format(printf, 2, 3)));

  // The op's list stops after it, and gives this number, which is not 0, to JavaScript, which does something before the next op; one that JavaScript calls
  // by itself returns it.
  void stop(int64_t number) { stopped_ = number; }
  int64_t stopped() const { return stopped_; }

 private:
  void* address(int i, const char* name, int64_t bytes, int64_t alignment, bool writable);
  void* address_of(double value, const char* name, int64_t bytes, int64_t alignment, bool writable);

  napi_env env_;
  char* error_ = nullptr;  // takes the message, where it is not to be thrown
  const char* op_;
  double values_[kMax];
  const double* list_ = nullptr;
  size_t list_length_ = 0;
  int64_t stopped_ = 0;
  bool failed_ = false;
};

// The one argument of ops on files: false unless it is the name of a file, shorter than the system's limit and without null characters.
using Path = char[4096];
bool take_path(napi_env env, napi_callback_info info, Path& path);
// What an op returns; integers below 2^53 are exact.
napi_value to_number(napi_env env, double x);

struct AdamW;
// Of the arguments from `i` on: param, grad, m, v, their length n, learningRate, beta1, beta2, eps, weightDecay, step, gradScale.
AdamW adam_w_arguments(Args& args, int i);

// An op: its name in JavaScript and its function.
struct Op {
  const char* name;
  napi_callback fn;
};
void export_op(napi_env env, napi_value exports, const Op& op);
// The same, and lets lists hold it. It must live as long as the process.
void export_op(napi_env env, napi_value exports, const NumericOp& op);
void add_command(const NumericOp& op);
template <class T, int N>
void export_ops(napi_env env, napi_value exports, const T (&ops)[N]) {
  for (const T& op : ops) export_op(env, exports, op);
}

// Each file of ops exports its own.
void export_lists(napi_env env, napi_value exports);
void export_measures(napi_env env, napi_value exports);
void export_memory(napi_env env, napi_value exports);
void export_reads(napi_env env, napi_value exports);
void export_matrix_ops(napi_env env, napi_value exports);
void export_demand(napi_env env, napi_value exports);
void export_mixer_ops(napi_env env, napi_value exports);
void export_repacking(napi_env env, napi_value exports);
void export_row_ops(napi_env env, napi_value exports);
void export_elementwise_ops(napi_env env, napi_value exports);

// The table of variant `isa`, or null when this machine cannot run it.
const KernelTable* kernel_table(int isa);

}  // namespace sw
