// Hostile inputs for the native code that works on bytes of files. Each is made of a seed and its number, and every buffer is a block of the
// heap that is exactly as long as what was promised, so that the address sanitizer sees a read of one byte too far.
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "../kernels/table.h"

namespace sw {

// splitmix64 (Steele, Lea and Flood 2014)
struct Random {
  uint64_t state;

  uint64_t next();
  int64_t below(int64_t n) { return (int64_t)(next() % (uint64_t)n); }
  bool chance(int percent) { return below(100) < percent; }
  void fill(void* to, size_t bytes);
};

// Blocks of one input, freed at its end. `pad` bytes, at most 15, stand before it: its address is a multiple of 16 plus these.
void* block(size_t bytes, size_t pad = 0);
template <class T>
T* array(int64_t count) {
  return (T*)block(count * sizeof(T));
}

// Ends the program, naming the input.
void fail(const char* format, ...) __attribute__((format(printf, 1, 2), noreturn));

// Tables of the instruction sets that this machine has and that were compiled.
constexpr int kMostVariants = kIsaCount;
extern const KernelTable* variants[kMostVariants];
extern int variant_count;

// Equal bits, or both no number, whose bits no one promises.
bool same(float a, float b);

// A number of a file that was not written to be read: any bits, or an ordinary one.
float wild(Random& random);

// Plain decoding of `count` blocks: the specification in src/quant, once more.
void decode(StoredType type, const uint8_t* blocks, int64_t count, float* out);

// Targets
void fuzz_blocks(Random& random);
void fuzz_routing(Random& random);
void fuzz_files(Random& random);

}  // namespace sw
