// Files that end early, and ranges that lie beside them: mapped ones read as what is there and zeros, reads in the background give the bytes or say that
// the file has ended. The binding has checked addresses as core/reads.h asks.
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "../core/memory.h"
#include "../core/reads.h"
#include "fuzz.h"

namespace sw {
namespace {

constexpr int64_t kMost = 5 * kPageBytes;
uint8_t content[kMost];

struct File {
  int descriptor;
  char path[64];
};

// One in memory, whose length each input changes, and one of a file system, where reads may be direct.
File open_file(bool on_disk) {
  File file = {};
  if (on_disk) {
    strcpy(file.path, "fuzz-XXXXXX");
    file.descriptor = mkstemp(file.path);
    unlink(file.path);
  } else {
    file.descriptor = memfd_create("fuzz", 0);
  }
  snprintf(file.path, sizeof file.path, "/proc/self/fd/%d", file.descriptor);
  if (file.descriptor < 0 || pwrite(file.descriptor, content, kMost, 0) != kMost || fsync(file.descriptor) != 0) fail("no file to read: %s", strerror(errno));
  return file;
}

// A byte of the content, or one beyond a length.
int64_t somewhere(Random& random, int64_t length) { return random.chance(30) ? length - 1 + random.below(3) : random.below(kMost + 100); }

void check_mapped(Random& random, const File& file, int64_t length) {
  size_t bytes = 0;
  const uintptr_t start = map_file(file.path, &bytes);
  if (length == 0) {
    if (start != 0) fail("an empty file is mapped");
    return;
  }
  if (start == 0 || (int64_t)bytes != length) fail("a file of %lld bytes is mapped as %lld", (long long)length, (long long)bytes);
  for (int i = 0; i < 4; i++) {
    const int64_t from = somewhere(random, length), count = random.chance(20) ? (int64_t)(random.next() >> random.below(64)) : somewhere(random, length);
    const bool inside = from <= length && (uint64_t)count <= (uint64_t)(length - from);
    if (is_live(start + from, count, false) != inside || is_live(start + from, count, true)) fail("is_live is wrong of %lld bytes from %lld on", (long long)count, (long long)from);
    advise(start + from, count, random.chance(50));
  }
  int64_t left = length;
  if (random.chance(20)) {
    left = random.below(length + 1);
    if (ftruncate(file.descriptor, left) != 0) fail("ftruncate: %s", strerror(errno));
  }
  for (int64_t i = 0; i < length; i += 1 + random.below(500)) {
    const uint8_t got = *(const volatile uint8_t*)(start + i), want = i < left ? content[i] : 0;
    if (got != want) fail("byte %lld of a file of %lld, cut to %lld, is %d, expected %d", (long long)i, (long long)length, (long long)left, got, want);
  }
  if (file_was_cut() != (left < length)) fail("a file of %lld bytes, cut to %lld, is said to be %s", (long long)length, (long long)left, left < length ? "whole" : "cut");
  if (!release(start) || release(start) || is_live(start, 1, false)) fail("a mapped file is released once");
}

struct Started {
  int64_t read, begin, bytes;
  char* pages;
};

void check_reads(Random& random, const File& file, int64_t length) {
  const int reader = open_reads(file.path);
  if (reader < 0 || !is_open(reader) || is_open((int)random.next() | 1024)) fail("open_reads: %s", strerror(errno));
  Started all[4];
  const int count = random.chance(70) ? 1 : 1 + (int)random.below(4);
  for (int i = 0; i < count; i++) {
    Started& s = all[i];
    s.begin = random.chance(5) ? (int64_t)(random.next() >> (12 + random.below(40))) : somewhere(random, length);
    s.bytes = 1 + (random.chance(20) ? somewhere(random, length) : random.below(300));
    const int64_t head = s.begin % kPageBytes;
    s.pages = (char*)aligned_alloc(kPageBytes, (head + s.bytes + kPageBytes - 1) / kPageBytes * kPageBytes);
    s.read = start_read(reader, s.begin, s.bytes, s.pages + head, random.chance(50));
    if (s.read == 0) fail("start_read: no memory");
  }
  for (int i = 0; i < count; i++) {
    const Started& s = all[i];
    if (!is_read(s.read) || is_read(-(int64_t)(random.next() >> 2)) || is_read(1 << 30)) fail("is_read is wrong");
    if (random.chance(20)) make_urgent(s.read);
    const bool there = s.begin <= length && s.bytes <= length - s.begin;
    const int64_t left = random.chance(20) ? stop_read(s.read) : 0;
    const int error = finish_read(s.read);
    if (left == 0 && error != (there ? 0 : kFileEnded) && !(error == EINVAL && s.begin > length)) fail("%lld bytes from %lld on of %lld: error %d", (long long)s.bytes, (long long)s.begin, (long long)length, error);
    if (left == 0 && there && memcmp(s.pages + s.begin % kPageBytes, content + s.begin, s.bytes) != 0) fail("a read gave other bytes");
    free(s.pages);
  }
  close_reads(reader);
  if (is_open(reader)) fail("a closed file is open");
}

}  // namespace

void fuzz_files(Random& random) {
  static File files[2];
  if (files[0].descriptor == 0) {
    Random{1}.fill(content, kMost);
    for (int i = 0; i < 2; i++) files[i] = open_file(i == 1);
  }
  const bool on_disk = random.below(64) == 0;
  const int64_t length = on_disk ? kMost : random.below(kMost + 1);
  if (!on_disk && (ftruncate(files[0].descriptor, length) != 0 || pwrite(files[0].descriptor, content, length, 0) != length)) fail("no file of %lld bytes", (long long)length);
  if (on_disk || random.chance(50)) check_reads(random, files[on_disk], length);
  else check_mapped(random, files[0], length);
}

}  // namespace sw
