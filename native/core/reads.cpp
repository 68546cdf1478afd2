#include "reads.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

namespace sw {
namespace {

// As many reads at a time as disks need to be busy; threads that wait for them take no processor.
constexpr int kReaders = 4;
constexpr int kMaxFiles = 1024;

enum State { kEnded, kQueued, kRunning, kDone };

struct Read {
  int file;
  State state;
  bool urgent;
  int error;
  int64_t begin, bytes, order;
  char* out;
};

pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
pthread_cond_t queued = PTHREAD_COND_INITIALIZER, done = PTHREAD_COND_INITIALIZER;
// A read's number is its index here plus one.
Read* reads = nullptr;
int64_t capacity = 0, started = 0;
int readers = 0;
bool open_files[kMaxFiles];

// The next read to run, or null. The caller holds the lock.
Read* next_read() {
  Read* next = nullptr;
  for (int64_t i = 0; i < capacity; i++) {
    Read* read = reads + i;
    if (read->state != kQueued) continue;
    if (next == nullptr || (read->urgent != next->urgent ? read->urgent : read->order < next->order)) next = read;
  }
  return next;
}

int run_read(const Read& read) {
  const int64_t head = read.begin % kPageBytes, needed = head + read.bytes, whole = (needed + kPageBytes - 1) / kPageBytes * kPageBytes;
  char* const out = read.out - head;
  const int64_t begin = read.begin - head;
  for (int64_t at = 0; at < needed;) {
    const ssize_t got = pread(read.file, out + at, whole - at, begin + at);
    if (got == 0) return kFileEnded;
    if (got > 0) {
      at += got;
      continue;
    }
    const int flags = fcntl(read.file, F_GETFL);
    // A file system without direct reads, or the odd rest of a read that was interrupted.
    if (errno == EINVAL && (flags & O_DIRECT)) fcntl(read.file, F_SETFL, flags & ~O_DIRECT);
    else if (errno != EINTR) return errno;
  }
  if (!(fcntl(read.file, F_GETFL) & O_DIRECT)) posix_fadvise(read.file, begin, whole, POSIX_FADV_DONTNEED);
  return 0;
}

void* reader(void*) {
  pthread_mutex_lock(&lock);
  for (;;) {
    Read* const next = next_read();
    if (next == nullptr) {
      pthread_cond_wait(&queued, &lock);
      continue;
    }
    next->state = kRunning;
    const Read read = *next;
    const int64_t index = next - reads;  // the table may move
    pthread_mutex_unlock(&lock);
    const int error = run_read(read);
    pthread_mutex_lock(&lock);
    reads[index].error = error;
    reads[index].state = kDone;
    pthread_cond_broadcast(&done);
  }
  return nullptr;
}

// Readers take no signals: those belong to the JavaScript thread. The caller holds the lock.
bool start_readers() {
  sigset_t all, old;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &old);
  while (readers < kReaders) {
    pthread_t thread;
    if (pthread_create(&thread, nullptr, reader, nullptr) != 0) break;
    pthread_detach(thread);
    readers++;
  }
  pthread_sigmask(SIG_SETMASK, &old, nullptr);
  return readers > 0;
}

// A free place in the table, or -1. The caller holds the lock.
int64_t free_place() {
  for (int64_t i = 0; i < capacity; i++) {
    if (reads[i].state == kEnded) return i;
  }
  const int64_t larger = capacity ? capacity * 2 : 64;
  Read* grown = (Read*)realloc(reads, larger * sizeof(Read));
  if (grown == nullptr) return -1;
  reads = grown;
  for (int64_t i = capacity; i < larger; i++) reads[i] = {};
  const int64_t place = capacity;
  capacity = larger;
  return place;
}

}  // namespace

int open_reads(const char* path) {
  int file = open(path, O_RDONLY | O_CLOEXEC | O_DIRECT);
  if (file < 0 && errno == EINVAL) file = open(path, O_RDONLY | O_CLOEXEC);
  if (file >= kMaxFiles) {
    close(file);
    errno = EMFILE;
    return -1;
  }
  if (file >= 0) __atomic_store_n(&open_files[file], true, __ATOMIC_RELEASE);
  return file;
}

bool is_open(int file) { return file >= 0 && file < kMaxFiles && __atomic_load_n(&open_files[file], __ATOMIC_ACQUIRE); }

void close_reads(int file) {
  __atomic_store_n(&open_files[file], false, __ATOMIC_RELEASE);
  close(file);
}

int64_t start_read(int file, int64_t begin, int64_t bytes, char* out, bool urgent) {
  pthread_mutex_lock(&lock);
  const int64_t place = start_readers() ? free_place() : -1;
  if (place >= 0) reads[place] = {file, kQueued, urgent, 0, begin, bytes, started++, out};
  pthread_mutex_unlock(&lock);
  pthread_cond_signal(&queued);
  return place + 1;
}

bool is_read(int64_t read) {
  pthread_mutex_lock(&lock);
  const bool is = read >= 1 && read <= capacity && reads[read - 1].state != kEnded;
  pthread_mutex_unlock(&lock);
  return is;
}

void make_urgent(int64_t read) {
  pthread_mutex_lock(&lock);
  reads[read - 1].urgent = true;
  pthread_mutex_unlock(&lock);
}

bool cancel_read(int64_t read) {
  pthread_mutex_lock(&lock);
  const bool waits = reads[read - 1].state == kQueued;
  if (waits) reads[read - 1].state = kEnded;
  pthread_mutex_unlock(&lock);
  return waits;
}

int finish_read(int64_t read) {
  pthread_mutex_lock(&lock);
  while (reads[read - 1].state != kDone) pthread_cond_wait(&done, &lock);
  const int error = reads[read - 1].error;
  reads[read - 1].state = kEnded;
  pthread_mutex_unlock(&lock);
  return error;
}

}  // namespace sw
