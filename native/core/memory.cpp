#include "memory.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/sysinfo.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "owner.h"

namespace sw {
namespace {

struct LiveRegion {
  uintptr_t start;
  size_t bytes;   // what the caller asked for
  size_t mapped;  // what was mapped
  bool writable;
  int file;  // of a mapped file; -1 for other memory
  bool cut;  // the file has become shorter
  uint64_t owner;
};

// Sorted by start.
LiveRegion* regions = nullptr;
size_t count = 0, capacity = 0;
size_t held = 0;  // bytes of those that are writable
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

// Bytes of memory and swap. The system promises any amount, and kills the process that uses more.
size_t machine_memory() {
  struct sysinfo machine;
  return sysinfo(&machine) == 0 ? (machine.totalram + machine.totalswap) * machine.mem_unit : SIZE_MAX;
}

bool insert(const LiveRegion& region) {
  const size_t most = machine_memory();
  pthread_mutex_lock(&lock);
  bool ok = !region.writable || held + region.mapped <= most;
  if (ok && count == capacity) {
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
    held += region.writable ? region.mapped : 0;
  }
  pthread_mutex_unlock(&lock);
  if (!ok) munmap((void*)region.start, region.mapped);
  return ok;
}

constexpr size_t kPage = 4096;
struct sigaction previous;

// Reading a mapped page beyond the end of its file raises SIGBUS: the page is replaced by one of zeros and the region marked. No thread
// touches mapped memory while it holds the lock. Any other SIGBUS goes where it went before.
void on_bus_error(int signal, siginfo_t* info, void* context) {
  const uintptr_t address = (uintptr_t)info->si_addr / kPage * kPage;
  pthread_mutex_lock(&lock);
  const size_t at = upper_bound(address);
  const bool ours = at > 0 && regions[at - 1].file >= 0 && address - regions[at - 1].start < regions[at - 1].mapped;
  if (ours) regions[at - 1].cut = true;
  pthread_mutex_unlock(&lock);
  if (ours && mmap((void*)address, kPage, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) != MAP_FAILED) return;
  if (previous.sa_flags & SA_SIGINFO) return previous.sa_sigaction(signal, info, context);
  sigaction(SIGBUS, &previous, nullptr);  // raised again on return
}

void catch_bus_errors() {
  struct sigaction action = {};
  action.sa_sigaction = on_bus_error;
  action.sa_flags = SA_SIGINFO;
  sigaction(SIGBUS, &action, &previous);
}

// Whether the first touch of a mapped file reads, and where its file system can do that maps, a page of 2 MiB, if advised to, and nothing beyond it:
// experts are touched in any order, for which the system otherwise keeps pages of 4 KiB, at half the speed of products. Linux does since 5.18;
// before, what is advised to be random is read 4 KiB at a time.
bool reads_huge_pages() {
  utsname system;
  return uname(&system) == 0 && atoi(system.release) >= 6;
}

}  // namespace

uintptr_t allocate(size_t bytes) {
  constexpr size_t huge = 2 << 20;
  if (bytes > (size_t)1 << 46) return 0;
  const size_t alignment = bytes >= huge ? huge : kPage;
  const size_t mapped = (bytes + alignment - 1 + (bytes == 0)) / alignment * alignment;
  const size_t reserved = mapped + (alignment == huge ? huge : 0);
  void* raw = mmap(nullptr, reserved, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (raw == MAP_FAILED) return 0;
  const uintptr_t start = ((uintptr_t)raw + alignment - 1) / alignment * alignment;
  const size_t before = start - (uintptr_t)raw, after = reserved - before - mapped;
  if (before) munmap(raw, before);
  if (after) munmap((void*)(start + mapped), after);
  if (alignment == huge) madvise((void*)start, mapped, MADV_HUGEPAGE);
  return insert({start, bytes, mapped, true, -1, false, this_owner()}) ? start : 0;
}

uintptr_t map_file(const char* path, size_t* bytes) {
  const int file = open(path, O_RDONLY | O_CLOEXEC);
  if (file < 0) return 0;
  const off_t size = lseek(file, 0, SEEK_END);
  void* address = size >= 0 ? mmap(nullptr, size, PROT_READ, MAP_PRIVATE, file, 0) : MAP_FAILED;
  if (address == MAP_FAILED) {
    const int error = errno;
    close(file);
    errno = error;
    return 0;
  }
  if (reads_huge_pages()) {
    madvise(address, size, MADV_HUGEPAGE);
    madvise(address, size, MADV_RANDOM);
  }
  static pthread_once_t once = PTHREAD_ONCE_INIT;
  pthread_once(&once, catch_bus_errors);
  *bytes = size;
  if (insert({(uintptr_t)address, *bytes, *bytes, false, file, false, this_owner()})) return (uintptr_t)address;
  close(file);
  return 0;
}

void advise(uintptr_t address, size_t bytes, bool needed) {
  pthread_mutex_lock(&lock);
  const size_t at = upper_bound(address);
  const LiveRegion region = at > 0 ? regions[at - 1] : LiveRegion{};
  pthread_mutex_unlock(&lock);
  if (at == 0 || region.file < 0 || address - region.start > region.bytes || bytes > region.bytes - (address - region.start)) return;
  const uintptr_t begin = (needed ? address : address + kPage - 1) / kPage * kPage, end = (needed ? address + bytes + kPage - 1 : address + bytes) / kPage * kPage;
  if (begin >= end) return;
  madvise((void*)begin, end - begin, needed ? MADV_WILLNEED : MADV_DONTNEED);
  if (!needed) posix_fadvise(region.file, begin - region.start, end - begin, POSIX_FADV_DONTNEED);
}

bool file_was_cut() {
  pthread_mutex_lock(&lock);
  bool cut = false;
  for (size_t i = 0; i < count; i++) {
    LiveRegion& region = regions[i];
    // What is missing of the last page is zeros without a signal.
    struct stat now;
    if (region.file >= 0 && !region.cut) region.cut = fstat(region.file, &now) == 0 && (size_t)now.st_size < region.bytes;
    cut |= region.cut;
  }
  pthread_mutex_unlock(&lock);
  return cut;
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
    held -= region.writable ? region.mapped : 0;
  }
  pthread_mutex_unlock(&lock);
  if (found) munmap((void*)region.start, region.mapped);
  if (found && region.file >= 0) close(region.file);
  return found;
}

void release_owned() {
  for (;;) {
    pthread_mutex_lock(&lock);
    size_t i = 0;
    while (i < count && regions[i].owner != this_owner()) i++;
    const uintptr_t start = i < count ? regions[i].start : 0;
    pthread_mutex_unlock(&lock);
    if (start == 0) return;
    release(start);
  }
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
