// The micro-kernel of all products of floats: a tile of the result, in registers, from rows of `a` and one packed panel of `b`.

constexpr int kTileRows = SW_LANES == 16 ? 12 : SW_LANES == 8 ? 6 : 4;
constexpr int kPanel = 2 * kLanes;
constexpr int64_t kBlockK = 256;

// Steps of k between two requests for cache lines, and how many requests ask for all that a panel is packed from: 32 rows of kBlockK floats,
// or kBlockK rows of 32 floats.
constexpr int64_t kAskEvery = 8;
constexpr int kSlices = 4;
constexpr int64_t kAskRows = 32;
// Steps without a branch between them. A core that two threads share is short of instructions: with the 12 multiply-adds of a step of AVX2 come 8 loads and,
// in a loop, 3 more (docs/lab-notebook.md). With AVX-512 it has 24 for 14, each of twice the work.
constexpr int kUnrolled = SW_LANES == 16 ? 1 : kAskEvery;

// Where step k of row i of a tile of `a` is: packed at k * kTileRows + i; where rows run along the steps at i * ld_a + k, across them at k * ld_a + i.
enum Lie { kPacked, kAlong, kAcross };

// Where the lines of one request are: each slice's two in each of two places. Requests of all slices cover 32 rows of a block, or kBlockK.
struct Request {
  int64_t row_step, second_row, second_byte, slice_row, slice_byte;
};

// What the micro-kernel does besides multiplying. Spread over its steps, the reads of what is packed next cost nothing; asked for at once, they
// stall. Passed by pointer: an argument on the stack is a store that waits behind the missing stores of the last tile.
struct Aside {
  int64_t steps, ld_a, ask_every;
  bool add, past;       // past: the result is written past the caches
  float* squares;       // where the sum of squares of the tile goes, if that is wanted
  int slices;           // of kSlices
  int64_t requests;     // one each time
  const char* at;       // of the first line; of that of row 0 where rows are gathered
  const int32_t* rows;  // as in Product
  int64_t ld, step, second, next_slice;  // bytes between rows, requests, a request's two places, and slices
  int64_t row, last;    // rows of the first request and of the operand's end
  const Request* request;

  // Two lines are here and two at the second place: of slice s of the n-th request, where rows are gathered.
  const char* line(int64_t n, int s, bool is_second) const {
    const int64_t r = row + n * request->row_step + s * request->slice_row + is_second * request->second_row;
    return at + rows[r < last ? r : last] * ld + s * request->slice_byte + is_second * request->second_byte;
  }
};

// p, as an address that is computed here, not early and with those of other steps, for which there are no registers.
SW_INLINE const float* computed(const float* p) {
  __asm__("" : "+r"(p));
  return p;
}

// The sum of squares of a tile, always in this order.
template <int MR>
SW_INLINE float tile_squares(const vf (*tile)[2]) {
  vf even = splat(0), odd = splat(0);
  SW_UNROLL for (int i = 0; i < MR; i++) {
    even += tile[i][0] * tile[i][0];
    odd += tile[i][1] * tile[i][1];
  }
  return sum_lanes(even + odd);
}

// c[MR][kPanel] = a b[steps][kPanel] (+ c); next_c: the tile that is written after this one. SQUARES: with the tile's sum of squares.
template <int MR, bool PAIRS, Lie LIE, bool SQUARES>
static void micro(const float* a, const float* b, float* c, int64_t ldc, const float* next_c, const Aside* aside) {
  const bool add = aside->add;
  const int64_t lda = aside->ld_a;
  vf sum[MR][2];
  SW_UNROLL for (int i = 0; i < MR; i++) {
    sum[i][0] = add ? load(c + i * ldc) : splat(0);
    sum[i][1] = add ? load(c + i * ldc + kLanes) : splat(0);
  }
  const float* rows_a[MR];  // GCC would keep an offset for each row and each unrolled step
  const auto step = [&](int at) __attribute__((always_inline)) {
    const vf b0 = load(b + at * kPanel), b1 = load(b + at * kPanel + kLanes);
    SW_UNROLL for (int i = 0; i < MR; i++) {
      const vf x = splat(LIE == kAlong ? rows_a[i][at] : LIE == kPacked ? a[at * kTileRows + i] : a[i]);
      sum[i][0] = add_product_in_place<PAIRS>(sum[i][0], x, b0);
      sum[i][1] = add_product_in_place<PAIRS>(sum[i][1], x, b1);
    }
    if (LIE == kAcross) a = computed(a + lda);
  };
  const auto steps = [&](int count) __attribute__((always_inline)) {
    SW_UNROLL for (int i = 0; LIE == kAlong && i < MR; i++) rows_a[i] = kUnrolled > 1 ? computed(a + i * lda) : a + i * lda;
    SW_UNROLL for (int at = 0; at < count; at++) step(at);
    a += LIE == kAlong ? count : LIE == kPacked ? count * kTileRows : 0;
    b += count * kPanel;
  };
  int64_t left = aside->steps;
  const int64_t ask_every = PAIRS ? aside->ask_every : kAskEvery;
  int rows = aside->past ? 0 : MR;  // of next_c still to be asked for
  const int at_once = left >= MR * ask_every ? 1 : MR;
  const char* at = aside->at;
  for (int64_t n = 0; left >= ask_every && (rows > 0 || n < aside->requests); left -= ask_every, n++) {
    for (int i = 0; i < at_once && rows > 0; i++, rows--) {
      for (int v = 0; v < kPanel; v += 16) __builtin_prefetch(next_c + v, 1, 3);
      next_c += ldc;
    }
    for (int s = 0; n < aside->requests && s < aside->slices; s++) {
      const char* const first = aside->rows ? aside->line(n, s, false) : at + s * aside->next_slice;
      const char* const second = aside->rows ? aside->line(n, s, true) : first + aside->second;
      __builtin_prefetch(first, 0, 2);
      __builtin_prefetch(first + 64, 0, 2);
      __builtin_prefetch(second, 0, 2);
      __builtin_prefetch(second + 64, 0, 2);
    }
    at += aside->step;
    for (int64_t done = 0; done < ask_every; done += kUnrolled) steps(kUnrolled);
  }
  for (; left >= kUnrolled; left -= kUnrolled) steps(kUnrolled);
  SW_ROLLED for (; left > 0; left--) steps(1);
  __asm__("" : "+r"(c), "+r"(ldc));  // addresses of rows are computed again, not kept in spilled registers across the loop
  if (SQUARES) *aside->squares = tile_squares<MR>(sum);
  if (aside->past) {
    SW_UNROLL for (int i = 0; i < MR; i++) {
      store_past(c + i * ldc, sum[i][0]);
      store_past(c + i * ldc + kLanes, sum[i][1]);
    }
    return;
  }
  SW_UNROLL for (int i = 0; i < MR; i++) {
    store(c + i * ldc, sum[i][0]);
    store(c + i * ldc + kLanes, sum[i][1]);
  }
}

using Micro = void (*)(const float*, const float*, float*, int64_t, const float*, const Aside*);

// f for 1 to kTileRows rows.
#if SW_LANES == 16
#define SW_ROWS(f, ...) SW_FOUR_ROWS(f, 0, ##__VA_ARGS__), SW_FOUR_ROWS(f, 4, ##__VA_ARGS__), SW_FOUR_ROWS(f, 8, ##__VA_ARGS__)
#elif SW_LANES == 8
#define SW_ROWS(f, ...) SW_FOUR_ROWS(f, 0, ##__VA_ARGS__), f<5, ##__VA_ARGS__>, f<6, ##__VA_ARGS__>
#else
#define SW_ROWS(f, ...) SW_FOUR_ROWS(f, 0, ##__VA_ARGS__)
#endif
#define SW_FOUR_ROWS(f, n, ...) f<n + 1, ##__VA_ARGS__>, f<n + 2, ##__VA_ARGS__>, f<n + 3, ##__VA_ARGS__>, f<n + 4, ##__VA_ARGS__>

template <bool PAIRS, Lie LIE>
SW_INLINE Micro micro_for(int64_t rows, bool squares = false) {
  static const Micro table[][kTileRows] = {{SW_ROWS(micro, PAIRS, LIE, false)}, {SW_ROWS(micro, PAIRS, LIE, true)}};
  return table[squares][rows - 1];
}
