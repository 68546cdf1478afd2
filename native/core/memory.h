// Engine memory: anonymous mappings and read-only files, and the table of those that are live, against which the
// binding checks every address that it is given.
#pragma once

#include <stddef.h>
#include <stdint.h>

namespace sw {

// Zeroed memory, 64-byte aligned (2 MiB and on huge pages when large); 0 when there is none.
uintptr_t allocate(size_t bytes);

// Maps a whole file read-only. Returns 0 and sets errno on failure.
uintptr_t map_file(const char* path, size_t* bytes);

// Gives back what allocate or map_file returned; false for any other address.
bool release(uintptr_t address);

// Whether [address, address + bytes) lies inside one live region, a writable one if `writable`.
bool is_live(uintptr_t address, size_t bytes, bool writable);

}  // namespace sw
