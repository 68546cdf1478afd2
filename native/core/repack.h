// Weights that files have as products do not read them, made rows of blocks as they do.
#pragma once

#include <stdint.h>

#include "../kernels/stored.h"

namespace sw {

// `rows` rows of `cols` elements, whole blocks of `type`, and where each of them goes in `out`.
// kMxfp4: elements two to a byte, the first of them low, and a byte of scale for each 32 of them. kE4m3, kE5m2: a byte each, and a scale for each
// `block_rows` x `block_cols` of them, which are multiples of 128 columns. kHalf, kBfloat: the matrix is [cols, rows], without scales.
struct Repack {
  StoredType type, scale_type;  // kFloat or kBfloat: of the scales of 8-bit floats
  int64_t rows, cols, block_rows, block_cols;
  const char *elements, *scales;
  const int32_t* places;  // row of out of each row, negative for none; null: its own number. No two are the same
  char* out;
};

// Bytes of the scales.
int64_t scale_bytes(const Repack& p);
void repack(const Repack& p);

}  // namespace sw
