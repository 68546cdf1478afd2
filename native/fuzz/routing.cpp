// Scores of any bits, as weights that are no numbers make them: what is chosen are experts that exist, each once, and sorting by them loses none.
#include <string.h>

#include "fuzz.h"

namespace sw {
namespace {

void check_sorted(const KernelTable& kernels, Random& random, int32_t* experts_TK, int64_t tokens, int64_t k, int64_t experts) {
  const int64_t slots = tokens * k, rows = slots + random.below(4);
  for (int64_t i = 0; i < slots; i++) {
    if (random.chance(10)) experts_TK[i] = -1;  // dropped
  }
  SortByExpert p = {};
  p.tokens = tokens, p.k = k, p.experts = experts, p.rows = rows, p.experts_TK = experts_TK;
  p.offsets_E = array<int32_t>(experts + 1), p.slots_N = array<int32_t>(rows), p.tokens_N = array<int32_t>(rows), p.positions_TK = array<int32_t>(slots);
  kernels.sort_by_expert(p);
  for (int64_t slot = 0; slot < slots; slot++) {
    const int32_t e = experts_TK[slot], at = p.positions_TK[slot];
    if (e < 0 ? at != -1 : at < p.offsets_E[e] || at >= p.offsets_E[e + 1] || p.slots_N[at] != slot || p.tokens_N[at] != slot / k) {
      fail("%s: slot %lld of expert %d is at %d", kernels.name, (long long)slot, e, at);
    }
  }
}

}  // namespace

void fuzz_routing(Random& random) {
  TopK p = {};
  p.groups = random.chance(50) ? 0 : 1 + random.below(6);
  p.experts = p.groups ? p.groups * (1 + random.below(9)) : 1 + random.below(70);
  p.keep = p.groups ? random.below(p.groups + 1) : 0;
  p.tokens = 1 + random.below(5), p.k = 1 + random.below(p.experts), p.top2sum = random.chance(50);
  float *const scores = array<float>(p.tokens * p.experts), *const bias = array<float>(p.experts);
  const bool any = random.chance(50);
  for (int64_t i = 0; i < p.tokens * p.experts; i++) scores[i] = wild(random);
  for (int64_t e = 0; e < p.experts; e++) bias[e] = wild(random);
  if (any) random.fill(scores, p.tokens * p.experts * sizeof(float));
  p.scores = scores, p.bias = random.chance(50) ? bias : nullptr;
  const int32_t* first = nullptr;
  for (int v = 0; v < variant_count; v++) {
    const KernelTable& kernels = *variants[v];
    p.indices = array<int32_t>(p.tokens * p.k);
    kernels.top_k(p);
    for (int64_t t = 0; t < p.tokens; t++) {
      const int32_t* const chosen = p.indices + t * p.k;
      for (int64_t i = 0; i < p.k; i++) {
        if (chosen[i] < 0 || chosen[i] >= p.experts) fail("%s: expert %d of %lld", kernels.name, chosen[i], (long long)p.experts);
        for (int64_t j = 0; j < i; j++) {
          if (chosen[i] == chosen[j]) fail("%s: expert %d is chosen twice", kernels.name, chosen[i]);
        }
      }
    }
    if (first && memcmp(first, p.indices, p.tokens * p.k * sizeof(int32_t)) != 0) fail("%s chooses other experts than %s", kernels.name, variants[0]->name);
    if (!first) {
      int32_t* const copy = array<int32_t>(p.tokens * p.k);
      memcpy(copy, p.indices, p.tokens * p.k * sizeof(int32_t));
      first = copy;
    }
    check_sorted(kernels, random, p.indices, p.tokens, p.k, p.experts);
  }
}

}  // namespace sw
