// Products of f32 rows with quantised weights, as src/engine/reference/quantised.ts specifies: each element of the result is one chain over
// the groups of k in rising order, whatever the blocking, and each link of it an exact integer sum times a scale. A task unpacks kChunk steps of
// a panel of columns (L1) and multiplies all its rows with them, so that unpacking is spread over the rows.

// Rows of a tile; times kPanelVectors, as many sums as registers hold.
constexpr int kQuantTile = SW_LANES == 8 ? 3 : 6;
constexpr int at_most(int rows) { return rows < kQuantTile ? rows : kQuantTile; }
// Rows of `a` in one task: their runs for all of a common k fit in the L2.
constexpr int64_t kQuantRows = 192;

// Panels that are multiplied by a tile of rows one after the other, while the rows' runs are in the L1.
constexpr int kSideBySide = 4;
// Results of one row so far.
using Sums = vf[kPanelVectors];

// sums[MR] += a[MR][blocks * 32] panel; rows: where each row's runs are.
template <StoredType T, int MR>
static void quant_micro(int64_t blocks, const char* const* rows, const Panel& panel, Sums* sums) {
  using L = Layout<T>;
  constexpr Dot D = dot_for<T>();
  constexpr int V = kPanelVectors, steps = L::group / 4, kept = kept_in_shorts(L::largest);
  const Run<D>* a[MR];
  vf acc[MR][V];
  SW_UNROLL for (int i = 0; i < MR; i++) {
    a[i] = (const Run<D>*)rows[i];
    SW_UNROLL for (int v = 0; v < V; v++) acc[i][v] = sums[i * kSideBySide][v];
  }
  for (int64_t b = 0; b < blocks; b++) {
    SW_UNROLL for (int g = 0; g < 32 / L::group; g++) {
      const vu(*w)[V] = panel.q + b * 8 + g * steps;
      vi sum[MR][V], pairs[MR][V];
      SW_UNROLL for (int i = 0; i < MR; i++) {
        SW_UNROLL for (int v = 0; v < V; v++) sum[i][v] = L::offset ? (vi){} + a[i][b].start[g] : (vi){};
      }
      SW_UNROLL for (int s = 0; s < steps; s++) {
        SW_UNROLL for (int i = 0; i < MR; i++) {
          const auto* q = a[i][b].q + g * L::group + 4 * s;
          const vi x = splat_bits(q);
          SW_UNROLL for (int v = 0; v < V; v++) {
            if (D == kQuads) sum[i][v] = quads(sum[i][v], w[s][v], x);
            if (D == kWide) {
              sum[i][v] += wide((vi)(w[s][v] & 0x00ff00ff), x);
              keep(sum[i][v]);
              sum[i][v] += wide((vi)(w[s][v] >> 8 & 0x00ff00ff), splat_bits(q + 2));
              keep(sum[i][v]);
            }
            if (D == kSigned) {
              sum[i][v] += signed_products(w[s][v], x);
              keep(sum[i][v]);
            }
            if (D == kShorts) {
              const vi two = shorts(w[s][v], x);
              pairs[i][v] = s % kept == 0 ? two : add_shorts(pairs[i][v], two);
              keep(pairs[i][v]);
              if (s % kept == kept - 1 || s == steps - 1) sum[i][v] += wide(pairs[i][v], (vi){} + 0x00010001);
            }
          }
        }
      }
      const int at = b * (32 / L::group) + g;
      SW_UNROLL for (int i = 0; i < MR; i++) {
        float total;
        memcpy(&total, a[i][b].start + g, 4);
        SW_UNROLL for (int v = 0; v < V; v++) {
          acc[i][v] += __builtin_convertvector(sum[i][v], vf) * (panel.scale[at][v] * a[i][b].scale);
          if (L::minima) acc[i][v] -= panel.minimum[at][v] * total;
        }
      }
    }
  }
  SW_UNROLL for (int i = 0; i < MR; i++) {
    SW_UNROLL for (int v = 0; v < V; v++) sums[i * kSideBySide][v] = acc[i][v];
  }
}

template <StoredType T>
static void quant_tile(int rows, int64_t blocks, const char* const* a, const Panel& panel, Sums* sums) {
  using Micro = void (*)(int64_t, const char* const*, const Panel&, Sums*);
  static const Micro table[] = {quant_micro<T, 1>, quant_micro<T, 2>, quant_micro<T, 3>, quant_micro<T, at_most(4)>, quant_micro<T, at_most(5)>, quant_micro<T, at_most(6)>};
  table[rows - 1](blocks, a, panel, sums);
}

// Unpacks columns [j, j + columns) of steps [k0, k0 + length), columns beyond being copies of the last, and asks for as many bytes at `ahead`.
template <StoredType T>
static void unpack_panel(Panel& panel, const Product& p, int64_t j, int64_t columns, int64_t k0, int64_t length, const char* ahead) {
  for (int v = 0; v < kPanelVectors; v++) {
    const uint8_t* rows[kLanes];
    for (int r = 0; r < kLanes; r++) {
      const int64_t row = v * kLanes + r < columns ? v * kLanes + r : columns - 1;
      rows[r] = (const uint8_t*)p.stored_row(j + row) + row_bytes(T, k0);
    }
    unpack<T>(panel, v, rows, ahead + v * kLanes * row_bytes(T, length), length);
  }
}

template <StoredType T>
static void quant_block(const Product& p, int64_t i0, int64_t i1, int64_t j0, int64_t j1, const Block* after) {
  if (i1 - i0 == 1) return quant_row_block<T>(p, i0, j0, j1, after ? after->p.stored_row(after->j0) : p.stored_row(j0));
  const Tiles tiles = {i1 - i0, (i1 - i0 + kQuantTile - 1) / kQuantTile};
  struct Scratch {
    Panel panel[kSideBySide];
    Sums sums[kQuantRows][kSideBySide];  // not in `out`, whose rows may all fall into the same sets of the L1
  };
  Scratch& s = *(Scratch*)scratch(2, sizeof(Scratch));
  constexpr int64_t step = kSideBySide * kPanelColumns;
  for (int64_t j = j0; j < j1; j += step) {
    const int64_t columns = j1 - j < step ? j1 - j : step;
    for (int64_t i = i0; i < i1; i++) {
      vf* sums = s.sums[i - i0][0];
      for (int64_t at = 0; at < columns; at += kLanes) sums[at / kLanes] = p.accumulate ? load(p.out + i * p.ld_out + j + at, columns - at) : splat(0);
    }
    // The next panels' bytes are asked for in the order in which they lie, which is faster than in that of their use; what memory drops of them, once
    // more with the tiles of the chunk before.
    const char* next = p.stored_row(j + step < j1 ? j + step : j);
    if (j + step >= j1 && after) next = after->p.stored_row(after->j0);
    for (int64_t k0 = 0; k0 < p.k; k0 += kChunk) {
      const int64_t length = p.k - k0 < kChunk ? p.k - k0 : kChunk;
      for (int64_t at = 0; at < columns; at += kPanelColumns) {
        const int64_t left = columns - at < kPanelColumns ? columns - at : kPanelColumns;
        unpack_panel<T>(s.panel[at / kPanelColumns], p, j + at, left, k0, length, next + step * row_bytes(T, k0) + at * row_bytes(T, length));
      }
      for (int64_t t = 0; t < tiles.count; t++) {
        const int64_t first = tiles.start(t), rows = tiles.size(t);
        const char* a[kQuantTile];
        for (int64_t i = 0; i < rows; i++) a[i] = p.row_runs(i0 + first + i) + k0 / 32 * sizeof(Run<dot_for<T>()>);
        for (int64_t r = columns * t / tiles.count; r < columns * (t + 1) / tiles.count; r++) {
          const char* row = k0 + length < p.k ? p.stored_row(j + r) + row_bytes(T, k0 + length) : next + r * p.ld_b;
          for (int64_t byte = 0; byte < row_bytes(T, kChunk) + 63; byte += 64) __builtin_prefetch(row + byte, 0, 2);
        }
        for (int64_t at = 0; at < columns; at += kPanelColumns) quant_tile<T>(rows, length / 32, a, s.panel[at / kPanelColumns], s.sums[first] + at / kPanelColumns);
      }
    }
    for (int64_t i = i0; i < i1; i++) {
      const vf* sums = s.sums[i - i0][0];
      for (int64_t at = 0; at < columns; at += kLanes) store(p.out + i * p.ld_out + j + at, sums[at / kLanes], columns - at);
    }
  }
}

template <StoredType T>
static void quant_matmul(const Matmul& p) {
  using R = Run<dot_for<T>()>;
  const int64_t row_runs = p.k / 32;
  R* const runs = (R*)scratch(0, p.rows * row_runs * sizeof(R) + all_groups(p) * sizeof(Cut));
  parallel_blocks(p.rows * row_runs, kGrain / 32, [&](int64_t first, int64_t last) {
    for (int64_t r = first; r < last; r++) quantise_run<T>(runs + r, p.a + 32 * r);
  });
  const BlockKernel kernel = {quant_block<T>, kQuantTile, kPanelColumns, kQuantRows, 8};
  Plan plan = {&p, &kernel, (const char*)runs, row_runs * (int64_t)sizeof(R), nullptr, nullptr, 0};
  run_plan(plan, (Cut*)(runs + p.rows * row_runs));
}

// gather_rows from a quantised table: kPanelColumns rows at a time through a panel.
template <StoredType T>
static void gather_quantised(float* out, const char* table, const int32_t* rows, int64_t m, int64_t cols) {
  using L = Layout<T>;
  parallel_blocks(m, kLanes, [&](int64_t first, int64_t last) {
    Panel& panel = *(Panel*)scratch(2, sizeof(Panel));
    for (int64_t k0 = 0; k0 < cols; k0 += kChunk) {
      const int64_t length = cols - k0 < kChunk ? cols - k0 : kChunk;
      const uint8_t* from[kLanes];
      for (int64_t r = 0; r < kLanes; r++) {
        const int32_t row = rows[first + r < last ? first + r : first];
        from[r] = (const uint8_t*)table + row_bytes(T, (row < 0 ? 0 : row) * cols + k0);
      }
      unpack<T>(panel, 0, from, (const char*)from[0], length);
      for (int64_t i = first; i < last; i++) {
        float* to = out + i * cols + k0;
        if (rows[i] < 0) memset(to, 0, length * sizeof(float));
        for (int64_t k = 0; k < length && rows[i] >= 0; k++) {
          const int64_t g = k / L::group, lane = i - first;
          const uint32_t q = panel.q[k / 4][0][lane] >> k % 4 * 8 & 255;
          const float value = panel.scale[g][0][lane] * (L::largest == 255 ? (int8_t)(q ^ kByteOffset) : (int)q - L::offset);
          to[k] = L::minima ? value - panel.minimum[g][0][lane] : value;
        }
      }
    }
  });
}
