#include "reads.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

#include "owner.h"

namespace sw {
namespace {

// As many reads at a time as disks need to be busy; threads that wait for them take no processor.
constexpr int kReaders = 4;
constexpr int kMaxFiles = 1024;
// A read is done in pieces of so many bytes, after each of which a reader takes what is most urgent. Smaller ones are slower.
constexpr int64_t kPiece = 512 << 10;

struct Read {
  bool live;  // started and not ended
  int file;
  bool urgent;
  int error, running;  // pieces
  int64_t begin, bytes, order;
  int64_t taken;  // bytes that readers have begun with, of whole pages from that of `begin` on
  char* out;
  uint64_t owner;

  int64_t whole() const { return (begin % kPageBytes + bytes + kPageBytes - 1) / kPageBytes * kPageBytes; }
  bool waits() const { return live && error == 0 && taken < whole(); }
  bool ended() const { return running == 0 && !waits(); }
};

pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
pthread_cond_t queued = PTHREAD_COND_INITIALIZER, done = PTHREAD_COND_INITIALIZER;
// A read's number is its index here plus one.
Read* reads = nullptr;
int64_t capacity = 0, started = 0;
int readers = 0;
uint64_t open_files[kMaxFiles];  // owner of each; 0: not open

// The read to go on with, or null. The caller holds the lock.
Read* next_read() {
  Read* next = nullptr;
  for (int64_t i = 0; i < capacity; i++) {
    Read* read = reads + i;
    if (!read->waits()) continue;
    if (next == nullptr || (read->urgent != next->urgent ? read->urgent : read->order < next->order)) next = read;
  }
  return next;
}

// The `piece` bytes from `from` on.
int run_piece(const Read& read, int64_t from, int64_t piece) {
  const int64_t head = read.begin % kPageBytes, begin = read.begin - head + from, rest = head + read.bytes - from, needed = rest < piece ? rest : piece;
  char* const out = read.out - head + from;
  for (int64_t at = 0; at < needed;) {
    const ssize_t got = pread(read.file, out + at, piece - at, begin + at);
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
  if (!(fcntl(read.file, F_GETFL) & O_DIRECT)) posix_fadvise(read.file, begin, piece, POSIX_FADV_DONTNEED);
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
    const Read read = *next;
    const int64_t index = next - reads;  // the table may move
    const int64_t rest = read.whole() - read.taken, piece = rest < kPiece ? rest : kPiece;
    next->taken += piece;
    next->running++;
    pthread_mutex_unlock(&lock);
    const int error = run_piece(read, read.taken, piece);
    pthread_mutex_lock(&lock);
    reads[index].running--;
    if (error != 0) reads[index].error = error;
    if (reads[index].ended()) pthread_cond_broadcast(&done);
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
    if (!reads[i].live) return i;
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
  if (file >= 0) __atomic_store_n(&open_files[file], this_owner(), __ATOMIC_RELEASE);
  return file;
}

bool is_open(int file) { return file >= 0 && file < kMaxFiles && __atomic_load_n(&open_files[file], __ATOMIC_ACQUIRE) != 0; }

void close_reads(int file) {
  __atomic_store_n(&open_files[file], 0, __ATOMIC_RELEASE);
  close(file);
}

int64_t start_read(int file, int64_t begin, int64_t bytes, char* out, bool urgent) {
  pthread_mutex_lock(&lock);
  const int64_t place = start_readers() ? free_place() : -1;
  if (place >= 0) reads[place] = {true, file, urgent, 0, 0, begin, bytes, started++, 0, out, this_owner()};
  pthread_mutex_unlock(&lock);
  pthread_cond_broadcast(&queued);
  return place + 1;
}

bool is_read(int64_t read) {
  pthread_mutex_lock(&lock);
  const bool is = read >= 1 && read <= capacity && reads[read - 1].live;
  pthread_mutex_unlock(&lock);
  return is;
}

void make_urgent(int64_t read) {
  pthread_mutex_lock(&lock);
  reads[read - 1].urgent = true;
  pthread_mutex_unlock(&lock);
}

int64_t stop_read(int64_t read) {
  pthread_mutex_lock(&lock);
  const int64_t left = reads[read - 1].whole() - reads[read - 1].taken;
  reads[read - 1].taken += left;
  const int64_t bytes = reads[read - 1].bytes;
  if (reads[read - 1].ended()) pthread_cond_broadcast(&done);
  pthread_mutex_unlock(&lock);
  return left < bytes ? left : bytes;
}

bool is_being_read(const char* begin, int64_t bytes, bool wait) {
  pthread_mutex_lock(&lock);
  bool any;
  for (;;) {
    any = false;
    for (int64_t i = 0; i < capacity && !any; i++) any = reads[i].live && !reads[i].ended() && reads[i].out < begin + bytes && reads[i].out + reads[i].bytes > begin;
    if (!any || !wait) break;
    pthread_cond_wait(&done, &lock);
  }
  pthread_mutex_unlock(&lock);
  return any;
}

int finish_read(int64_t read) {
  pthread_mutex_lock(&lock);
  while (!reads[read - 1].ended()) pthread_cond_wait(&done, &lock);
  const int error = reads[read - 1].error;
  reads[read - 1].live = false;
  pthread_mutex_unlock(&lock);
  return error;
}

void end_owned_reads() {
  for (int64_t read = 1;; read++) {
    pthread_mutex_lock(&lock);
    while (read <= capacity && !(reads[read - 1].live && reads[read - 1].owner == this_owner())) read++;
    const bool any = read <= capacity;
    pthread_mutex_unlock(&lock);
    if (!any) break;
    stop_read(read);
    finish_read(read);
  }
  for (int file = 0; file < kMaxFiles; file++) {
    if (__atomic_load_n(&open_files[file], __ATOMIC_ACQUIRE) == this_owner()) close_reads(file);
  }
}

}  // namespace sw
