#include "repack.h"

#include <string.h>

#include "pool.h"

namespace sw {
namespace {

// Rows of a task; a square of 16-bit numbers of this side stays in the L1.
constexpr int64_t kRows = 32;

typedef uint8_t Bytes16 __attribute__((vector_size(16), aligned(1)));

// Elements 0, 1, 2 ... in the nibbles of consecutive bytes -> 0..15 in the low ones and 16..31 in the high ones.
void mxfp4_row(char* out, const char* elements, const char* scales, int64_t cols) {
  for (int64_t b = 0; b < cols / 32; b++, out += 17, elements += 16) {
    Bytes16 x, y;
    memcpy(&x, elements, 16);
    y = __builtin_shufflevector(x, x, 8, 9, 10, 11, 12, 13, 14, 15, 8, 9, 10, 11, 12, 13, 14, 15);
    const Bytes16 even = (x & 15) | (y << 4), odd = (x >> 4) | (y & 0xf0);
    x = __builtin_shufflevector(even, odd, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
    out[0] = scales[b];
    memcpy(out + 1, &x, 16);
  }
}

void fp8_row(char* out, const Repack& p, int64_t row) {
  const int64_t size = p.scale_type == kFloat ? 4 : 2;
  const char* scales = p.scales + row / p.block_rows * ((p.cols + p.block_cols - 1) / p.block_cols) * size;
  const char* from = p.elements + row * p.cols;
  for (int64_t c = 0; c < p.cols; c += 128, out += 132, from += 128) {
    // Little-endian: the two bytes of a bfloat16 are the upper ones of its f32.
    char scale[4] = {};
    memcpy(scale + 4 - size, scales + c / p.block_cols * size, size);
    memcpy(out, scale, 4);
    memcpy(out + 4, from, 128);
  }
}

void task(void* context, int64_t number) {
  const Repack& p = *(const Repack*)context;
  const int64_t first = number * kRows, end = first + kRows < p.rows ? first + kRows : p.rows, bytes = row_bytes(p.type, p.cols);
  char* rows[kRows];
  for (int64_t r = first; r < end; r++) {
    const int64_t place = p.places ? p.places[r] : r;
    rows[r - first] = place < 0 ? nullptr : p.out + place * bytes;
  }
  if (p.type == kHalf || p.type == kBfloat) {
    for (int64_t left = 0; left < p.cols; left += kRows) {
      const int64_t right = left + kRows < p.cols ? left + kRows : p.cols;
      for (int64_t r = first; r < end; r++) {
        if (!rows[r - first]) continue;
        for (int64_t c = left; c < right; c++) memcpy(rows[r - first] + 2 * c, p.elements + 2 * (c * p.rows + r), 2);
      }
    }
    return;
  }
  for (int64_t r = first; r < end; r++) {
    if (!rows[r - first]) continue;
    if (p.type == kMxfp4) mxfp4_row(rows[r - first], p.elements + r * (p.cols / 2), p.scales + r * (p.cols / 32), p.cols);
    else fp8_row(rows[r - first], p, r);
  }
}

}  // namespace

int64_t scale_bytes(const Repack& p) {
  if (p.type == kHalf || p.type == kBfloat) return 0;
  if (p.type == kMxfp4) return p.rows * (p.cols / 32);
  return ((p.rows + p.block_rows - 1) / p.block_rows) * ((p.cols + p.block_cols - 1) / p.block_cols) * (p.scale_type == kFloat ? 4 : 2);
}

void repack(const Repack& p) { parallel_for((p.rows + kRows - 1) / kRows, task, const_cast<Repack*>(&p)); }

}  // namespace sw
