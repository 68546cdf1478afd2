// Engine memory: anonymous mappings and read-only files, and the table of those that are live, against which the
// binding checks every address that it is given.
#pragma once

#include <stddef.h>
#include <stdint.h>

namespace sw {

// Zeroed memory, 64-byte aligned (2 MiB and on huge pages when large); 0 when there is none, or when all of it together would be more than the machine has.
uintptr_t allocate(size_t bytes);

// Maps a whole file read-only. Returns 0 and sets errno on failure.
uintptr_t map_file(const char* path, size_t* bytes);

// Tells the system that a part of a mapped file will be read soon, so that it starts reading, or not for long, so that its pages go. Pages
// that reach beyond the part stay. Does nothing for other memory.
void advise(uintptr_t address, size_t bytes, bool needed);

// Whether a live mapped file has become shorter than it was: what is missing reads as zeros instead of killing the process.
bool file_was_cut();

// Gives back what allocate or map_file returned; false for any other address.
bool release(uintptr_t address);

// Gives back all that the calling thread allocated and mapped.
void release_owned();

// Whether [address, address + bytes) lies inside one live region, a writable one if `writable`.
bool is_live(uintptr_t address, size_t bytes, bool writable);

}  // namespace sw
