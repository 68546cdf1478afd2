// Who has what: a JavaScript thread, whose memory, files and reads go with it.
#pragma once

#include <stdint.h>

namespace sw {

// The calling thread's number, from 1 on.
inline uint64_t this_owner() {
  static uint64_t last = 0;
  static __thread uint64_t own = 0;
  if (own == 0) own = __atomic_add_fetch(&last, 1, __ATOMIC_RELAXED);
  return own;
}

}  // namespace sw
