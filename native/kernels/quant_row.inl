// One row times quantised weights, bound by memory: weights are multiplied as they are unpacked, with no panel between. The chains are those of
// the micro-kernel.

// Sums of kLanes columns so far, and the products of the groups that are not complete.
template <StoredType T>
struct RowSink {
  static constexpr bool one_row = true;
  using L = Layout<T>;
  static constexpr Dot D = dot_for<T>();
  static constexpr int steps = L::group / 4, kept = kept_in_shorts(L::largest);
  // Where blocks have 32 elements, one is under way at a time, at an index that the compiler does not know.
  static constexpr int open = kBlockSizes[T].elements == 32 ? 1 : kChunk / L::group;

  const Run<D>* a;  // of the chunk
  vf sum;
  vi products[open], pairs[open];

  void give(int step, vu w) {
    const int s = step % steps;
    const Run<D>& run = a[step / 8];
    vi &all = products[step / steps % open], &two = pairs[step / steps % open];
    if (s == 0) all = L::offset ? (vi){} + run.start[step % 8 / steps] : (vi){};
    const auto* q = run.q + step % 8 * 4;
    const vi x = splat_bits(q);
    if (D == kQuads) all = quads(all, w, x);
    if (D == kWide) all += wide((vi)(w & 0x00ff00ff), x) + wide((vi)(w >> 8 & 0x00ff00ff), splat_bits(q + 2));
    if (D == kShorts) {
      two = s % kept == 0 ? shorts(w, x) : add_shorts(two, shorts(w, x));
      if (s % kept == kept - 1 || s == steps - 1) all += wide(two, (vi){} + 0x00010001);
    }
  }

  void end(int g, vf scale, vf minimum) {
    add_group<T>(sum, a[g * L::group / 32], g % (32 / L::group), products[g % open], scale, minimum);
  }
};

// Columns [j0, j1) of row i; `next`: what this thread may read after them.
template <StoredType T>
static void quant_row_block(const Product& p, int64_t i, int64_t j0, int64_t j1, const char* next) {
  const auto* runs = (const Run<dot_for<T>()>*)p.row_runs(i);
  float* out = p.out + i * p.ld_out;
  for (int64_t j = j0; j < j1; j += kLanes) {
    Rows chunk = {nullptr, {}, kRequests, 0};
    for (int i = 0; i < kRequests; i++) chunk.ahead[i] = columns_after(p, j, (i + 1) * kLanes, j1, next);
    RowSink<T> sink;
    sink.sum = p.accumulate ? load(out + j, j1 - j) : splat(0);
    for (int64_t k0 = 0; k0 < p.k; k0 += kChunk) {
      const int64_t length = p.k - k0 < kChunk ? p.k - k0 : kChunk;
      const uint8_t* rows[kLanes];
      for (int r = 0; r < kLanes; r++) rows[r] = (const uint8_t*)p.stored_row(j + r < j1 ? j + r : j) + row_bytes(T, k0);
      chunk.rows = rows;
      chunk.at = kLanes * row_bytes(T, k0);
      sink.a = runs + k0 / 32;
#if SW_LANES == 8
      if constexpr (Layout<T>::group == 32) {
        add_pairs_of_rows<T>(sink.sum, chunk, sink.a, length);
        continue;
      }
#endif
      unpack<T>(sink, chunk, length);
    }
    store(out + j, sink.sum, j1 - j);
  }
}
