// fuzz TARGET [--inputs N] [--seed S] [--first F]: the same seed gives the same inputs; after a failure `--first F --inputs 1`
// repeats the one that it names. A process of its own works, so that its end is told, whatever it was.
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "../core/pool.h"
#include "fuzz.h"

// Freed blocks need not be kept long: an input frees all of its own.
extern "C" const char* __asan_default_options() { return "quarantine_size_mb=4:detect_leaks=0:malloc_context_size=4"; }

namespace sw {

// A variant that was not compiled has no table.
extern const KernelTable kernels_x86_64 __attribute__((weak)), kernels_avx2 __attribute__((weak)), kernels_avx512 __attribute__((weak)),
    kernels_avx512_bf16 __attribute__((weak));

const KernelTable* variants[kMostVariants];
int variant_count = 0;

uint64_t Random::next() {
  uint64_t x = state += 0x9e3779b97f4a7c15;
  x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9;
  x = (x ^ x >> 27) * 0x94d049bb133111eb;
  return x ^ x >> 31;
}

void Random::fill(void* to, size_t bytes) {
  for (size_t i = 0; i < bytes; i += 8) {
    const uint64_t x = next();
    memcpy((char*)to + i, &x, bytes - i < 8 ? bytes - i : 8);
  }
}

bool same(float a, float b) {
  uint32_t x, y;
  memcpy(&x, &a, 4);
  memcpy(&y, &b, 4);
  return x == y || (a != a && b != b);
}

float wild(Random& random) {
  const uint64_t bits = random.next();
  float x;
  memcpy(&x, &bits, 4);
  return bits >> 60 == 0 ? x : (float)((int)(bits & 0xffff) - 0x8000) / 4096;
}

namespace {

constexpr int kMostBlocks = 64;
void* live[kMostBlocks];
int live_count = 0;

struct Target {
  const char* name;
  void (*run)(Random&);
};
const Target targets[] = {{"blocks", fuzz_blocks}, {"routing", fuzz_routing}, {"files", fuzz_files}};

// The input that the working process is at.
volatile int64_t* number;

double seconds() {
  timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

void work(const Target& target, int64_t first, int64_t inputs, int64_t seed) {
  double shown = seconds();
  for (int64_t i = 0; i < inputs; i++) {
    *number = first + i;
    Random random = {(uint64_t)seed << 40 | (uint64_t)(first + i)};
    target.run(random);
    for (; live_count > 0; live_count--) free(live[live_count - 1]);
    if (i % 1024 == 0 && seconds() - shown > 10) {
      shown = seconds();
      fprintf(stderr, "%s: %lld of %lld\n", target.name, (long long)i, (long long)inputs);
    }
  }
}

int64_t option(int count, char** arguments, const char* name, int64_t otherwise) {
  for (int i = 2; i + 1 < count; i += 2) {
    if (strcmp(arguments[i], name) == 0) return atoll(arguments[i + 1]);
  }
  return otherwise;
}

}  // namespace

void* block(size_t bytes, size_t pad) {
  char* const start = live_count < kMostBlocks ? (char*)malloc(bytes + pad) : nullptr;
  if (start == nullptr) fail("no memory for a block of %zu bytes", bytes);
  live[live_count++] = start;
  return start + pad;
}

void fail(const char* format, ...) {
  va_list arguments;
  va_start(arguments, format);
  vfprintf(stderr, format, arguments);
  va_end(arguments);
  fputc('\n', stderr);
  _exit(1);
}

}  // namespace sw

int main(int count, char** arguments) {
  using namespace sw;
  const Target* target = nullptr;
  for (const Target& t : targets) {
    if (count > 1 && strcmp(arguments[1], t.name) == 0) target = &t;
  }
  if (target == nullptr) {
    fprintf(stderr, "usage: fuzz blocks|routing|files [--inputs N] [--seed S] [--first F]\n");
    return 2;
  }
  const int64_t inputs = option(count, arguments, "--inputs", 100'000), seed = option(count, arguments, "--seed", 1), first = option(count, arguments, "--first", 0);
  const KernelTable* const all[] = {&kernels_x86_64, &kernels_avx2, &kernels_avx512, &kernels_avx512_bf16};
  for (int isa = 0; isa < kIsaCount; isa++) {
    if (all[isa] != nullptr && cpu_supports((Isa)isa)) variants[variant_count++] = all[isa];
  }
  number = (int64_t*)mmap(nullptr, sizeof *number, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  const double start = seconds();
  const pid_t child = fork();
  if (child == 0) {
    work(*target, first, inputs, seed);
    _exit(0);
  }
  int status = 0;
  if (child < 0 || waitpid(child, &status, 0) != child) {
    perror("fuzz");
    return 1;
  }
  if (status != 0) {
    const bool killed = WIFSIGNALED(status);
    fprintf(stderr, "%s, seed %lld, input %lld: the process ended with %s %d\n", target->name, (long long)seed, (long long)*number, killed ? "signal" : "status",
            killed ? WTERMSIG(status) : WEXITSTATUS(status));
    return 1;
  }
  const double taken = seconds() - start;
  printf("{\"target\":\"%s\",\"seed\":%lld,\"inputs\":%lld,\"variants\":\"", target->name, (long long)seed, (long long)inputs);
  for (int i = 0; i < variant_count; i++) printf("%s%s", i ? " " : "", variants[i]->name);
  printf("\",\"seconds\":%.0f,\"perSecond\":%.0f}\n", taken, (double)inputs / taken);
  return 0;
}
