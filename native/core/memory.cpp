#include "memory.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

namespace sw {
namespace {

struct LiveRegion {
  uintptr_t start;
  size_t bytes;   // what the caller asked for
  size_t mapped;  // what was mapped
  bool writable;
};

// Sorted by start.
LiveRegion* regions = nullptr;
size_t count = 0, capacity = 0;
pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

// Number of regions that start at or below `address`. The caller holds the lock.
size_t upper_bound(uintptr_t address) {
  size_t low = 0, high = count;
  while (low < high) {
    const size_t middle = (low + high) / 2;
    if (regions[middle].start <= address) low = middle + 1;
    else high = middle;
  }
  return low;
}

bool insert(const LiveRegion& region) {
  pthread_mutex_lock(&lock);
  bool ok = true;
  if (count == capacity) {
    const size_t larger = capacity ? capacity * 2 : 64;
    void* grown = realloc(regions, larger * sizeof(LiveRegion));
    ok = grown != nullptr;
    if (ok) {
      regions = (LiveRegion*)grown;
      capacity = larger;
    }
  }
  if (ok) {
    const size_t at = upper_bound(region.start);
    memmove(regions + at + 1, regions + at, (count - at) * sizeof(LiveRegion));
    regions[at] = region;
    count++;
  }
  pthread_mutex_unlock(&lock);
  if (!ok) munmap((void*)region.start, region.mapped);
  return ok;
}

}  // namespace

uintptr_t allocate(size_t bytes) {
  constexpr size_t page = 4096, huge = 2 << 20;
  if (bytes > (size_t)1 << 46) return 0;
  const size_t alignment = bytes >= huge ? huge : page;
  const size_t mapped = (bytes + alignment - 1 + (bytes == 0)) / alignment * alignment;
  const size_t reserved = mapped + (alignment == huge ? huge : 0);
  void* raw = mmap(nullptr, reserved, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (raw == MAP_FAILED) return 0;
  const uintptr_t start = ((uintptr_t)raw + alignment - 1) / alignment * alignment;
  const size_t before = start - (uintptr_t)raw, after = reserved - before - mapped;
  if (before) munmap(raw, before);
  if (after) munmap((void*)(start + mapped), after);
  if (alignment == huge) madvise((void*)start, mapped, MADV_HUGEPAGE);
  return insert({start, bytes, mapped, true}) ? start : 0;
}

uintptr_t map_file(const char* path, size_t* bytes) {
  const int file = open(path, O_RDONLY | O_CLOEXEC);
  if (file < 0) return 0;
  const off_t size = lseek(file, 0, SEEK_END);
  void* address = size >= 0 ? mmap(nullptr, size, PROT_READ, MAP_PRIVATE, file, 0) : MAP_FAILED;
  const int error = errno;
  close(file);
  errno = error;
  if (address == MAP_FAILED) return 0;
  *bytes = size;
  return insert({(uintptr_t)address, *bytes, *bytes, false}) ? (uintptr_t)address : 0;
}

bool release(uintptr_t address) {
  LiveRegion region = {};
  pthread_mutex_lock(&lock);
  const size_t at = upper_bound(address);
  const bool found = at > 0 && regions[at - 1].start == address;
  if (found) {
    region = regions[at - 1];
    memmove(regions + at - 1, regions + at, (count - at) * sizeof(LiveRegion));
    count--;
  }
  pthread_mutex_unlock(&lock);
  if (found) munmap((void*)region.start, region.mapped);
  return found;
}

bool is_live(uintptr_t address, size_t bytes, bool writable) {
  pthread_mutex_lock(&lock);
  const size_t at = upper_bound(address);
  bool live = false;
  if (at > 0) {
    const LiveRegion& region = regions[at - 1];
    const size_t offset = address - region.start;
    live = offset <= region.bytes && bytes <= region.bytes - offset && (region.writable || !writable);
  }
  pthread_mutex_unlock(&lock);
  return live;
}

}  // namespace sw
