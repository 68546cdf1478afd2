// Types that weights are stored in, in the order of the names in src/tensor/dtype.ts. Layouts of the blocks: src/quant/.
#pragma once

#include <stdint.h>

namespace sw {

enum StoredType { kFloat, kHalf, kBfloat, kQ4_0, kQ4_1, kQ5_0, kQ5_1, kQ8_0, kQ2K, kQ3K, kQ4K, kQ5K, kQ6K, kIq4NL, kIq4XS, kMxfp4, kE4m3, kE5m2 };
constexpr StoredType kLastType = kE5m2;

struct BlockSize {
  int elements, bytes;
};
constexpr BlockSize kBlockSizes[] = {{1, 4},    {1, 2},    {1, 2},     {32, 18},   {32, 20},   {32, 22},   {32, 24},  {32, 34},
                                     {256, 84}, {256, 110}, {256, 144}, {256, 176}, {256, 210}, {32, 18}, {256, 136}, {32, 17}, {128, 132}, {128, 132}};

// Bytes of a row of `cols` elements, which are whole blocks.
constexpr int64_t row_bytes(StoredType type, int64_t cols) { return cols / kBlockSizes[type].elements * kBlockSizes[type].bytes; }

}  // namespace sw
