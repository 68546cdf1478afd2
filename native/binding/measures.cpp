// What this machine can do at most, which training and benchmarks compare with.
#include <string.h>
#include <time.h>

#include "../core/pool.h"
#include "binding.h"

namespace sw {
namespace {

double seconds() {
  timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec + t.tv_nsec * 1e-9;
}

struct PeakRun {
  const KernelTable* kernels;
  int64_t iterations;
  Peak of;
  double flops[kMaxThreads];
};

// peak(isa, iterations, of): floating-point or integer operations per second of multiply-adds in registers, on all threads; of: 0 f32, 1 bf16, 2 int8.
napi_value op_peak(napi_env env, napi_callback_info info) {
  Args args(env, info, "peak", 3);
  PeakRun run = {&args.kernels(), args.integer(1, "iterations", 1, 1LL << 40), (Peak)args.integer(2, "of", kF32Peak, kInt8Peak), {}};
  if (!args.ok()) return nullptr;
  const double start = seconds();
  parallel_for(thread_count(), [](void* context, int64_t task) {
    PeakRun& r = *(PeakRun*)context;
    r.flops[task] = r.kernels->peak(r.iterations, r.of);
  }, &run);
  const double end = seconds();
  double flops = 0;
  for (int i = 0; i < thread_count(); i++) flops += run.flops[i];
  return to_number(env, flops / (end - start));
}

struct ReadRun {
  const char* from;
  int64_t bytes;
  uint64_t sum;
};
constexpr int64_t kReadChunk = 1 << 20;

// readBandwidth(address, bytes): bytes per second of all threads reading memory once.
napi_value op_read_bandwidth(napi_env env, napi_callback_info info) {
  Args args(env, info, "readBandwidth", 2);
  const int64_t bytes = args.integer(1, "bytes", 1, 1LL << 52) / kReadChunk * kReadChunk;
  ReadRun run = {args.in<char>(0, "from", bytes), bytes, 0};
  if (!args.ok()) return nullptr;
  const double start = seconds();
  parallel_for(bytes / kReadChunk, [](void* context, int64_t task) {
    ReadRun& r = *(ReadRun*)context;
    uint64_t sum = 0, x;
    for (const char *p = r.from + task * kReadChunk, *end = p + kReadChunk; p < end; p += 8) {
      memcpy(&x, p, 8);
      sum += x;
    }
    __atomic_fetch_add(&r.sum, sum, __ATOMIC_RELAXED);
  }, &run);
  return to_number(env, bytes / (seconds() - start));
}

const Op ops[] = {{"peak", op_peak}, {"readBandwidth", op_read_bandwidth}};

}  // namespace

void export_measures(napi_env env, napi_value exports) { export_ops(env, exports, ops); }

}  // namespace sw
