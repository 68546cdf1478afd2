#include "pool.h"

#include <errno.h>
#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

namespace sw {
namespace {

// How long an idle thread spins before it sleeps: longer than the gap between two parallel ops of a generated token, which is tens of microseconds
// of JavaScript and small ops, and short enough that an idle process takes no CPU (see docs/lab-notebook.md).
constexpr int64_t kSpinNanoseconds = 200'000;

// What one thread does beside the one that asked for it.
enum Beside { kNone, kPrepared, kAsked, kUnderWay };

// One job at a time. `ticket` holds the job's number above and its unclaimed tasks below, so that a thread that comes late
// can never claim a task of a job whose fields it has not seen.
struct Pool {
  alignas(64) uint64_t ticket = 0;
  alignas(64) int64_t done = 0;
  alignas(64) int32_t finished = 0;  // futex: number of the last finished job
  int32_t caller_sleeps = 0;
  alignas(64) int32_t wake = 0;  // futex: changes when there is work
  int32_t sleepers = 0;
  TaskFn fn = nullptr;
  void* context = nullptr;
  int64_t tasks = 0;
  int32_t beside = kNone;
  TaskFn beside_fn = nullptr;
  void* beside_context = nullptr;
  int threads = 1, started = 0;
  pthread_mutex_t job = PTHREAD_MUTEX_INITIALIZER;
};
Pool pool;

void futex_wait(int32_t* word, int32_t value) { syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, value, nullptr, nullptr, 0); }
void futex_wake(int32_t* word, int count) { syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, count, nullptr, nullptr, 0); }

int64_t nanoseconds() {
  timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec * 1'000'000'000LL + t.tv_nsec;
}

// Spins until `ready`, for kSpinNanoseconds at most.
template <class F>
bool spin(F ready) {
  const int64_t end = nanoseconds() + kSpinNanoseconds;
  do {
    for (int i = 0; i < 8; i++) {
      if (ready()) return true;
      __builtin_ia32_pause();
    }
  } while (nanoseconds() < end);
  return false;
}

bool beside_waits() { return __atomic_load_n(&pool.beside, __ATOMIC_SEQ_CST) == kAsked; }
bool change_beside(int32_t from, int32_t to) { return __atomic_compare_exchange_n(&pool.beside, &from, to, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST); }
bool work_waits() { return (uint32_t)__atomic_load_n(&pool.ticket, __ATOMIC_SEQ_CST) != 0; }

struct Claim {
  int32_t job;
  int64_t task;  // -1: none
};

// The first task that nobody has claimed, if more than `most_left` are left.
Claim claim(uint32_t most_left) {
  uint64_t ticket = __atomic_load_n(&pool.ticket, __ATOMIC_ACQUIRE);
  while ((uint32_t)ticket > most_left) {
    // A claimed task keeps its job, and so the pool's fields, from changing until it is counted as done.
    if (__atomic_compare_exchange_n(&pool.ticket, &ticket, ticket - 1, false, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE)) return {(int32_t)(ticket >> 32), pool.tasks - (uint32_t)ticket};
  }
  return {0, -1};
}

__thread int64_t after = -1;

// Claims and runs tasks until none is left.
void run_tasks() {
  Claim now = claim(0);
  while (now.task >= 0) {
    const Claim next = claim(thread_count());
    after = next.task;
    const int64_t tasks = pool.tasks;
    pool.fn(pool.context, now.task);
    if (__atomic_add_fetch(&pool.done, 1, __ATOMIC_ACQ_REL) == tasks) {
      __atomic_store_n(&pool.finished, now.job, __ATOMIC_SEQ_CST);
      if (__atomic_load_n(&pool.caller_sleeps, __ATOMIC_SEQ_CST)) futex_wake(&pool.finished, 1);
    }
    now = next.task >= 0 ? next : claim(0);
  }
}

void* worker(void* argument) {
  const int index = (int)(intptr_t)argument;
  for (;;) {
    const int32_t wake = __atomic_load_n(&pool.wake, __ATOMIC_SEQ_CST);
    const bool takes_part = index < __atomic_load_n(&pool.threads, __ATOMIC_SEQ_CST);
    const auto anything = [] { return work_waits() || beside_waits(); };
    if (takes_part && spin(anything)) {
      run_tasks();
      if (beside_waits() && change_beside(kAsked, kUnderWay)) {
        pool.beside_fn(pool.beside_context, 0);
        __atomic_store_n(&pool.beside, kNone, __ATOMIC_SEQ_CST);
      }
      continue;
    }
    __atomic_add_fetch(&pool.sleepers, 1, __ATOMIC_SEQ_CST);
    if (!takes_part || !anything()) futex_wait(&pool.wake, wake);
    __atomic_sub_fetch(&pool.sleepers, 1, __ATOMIC_SEQ_CST);
  }
  return nullptr;
}

void wake_all() {
  __atomic_add_fetch(&pool.wake, 1, __ATOMIC_SEQ_CST);
  futex_wake(&pool.wake, kMaxThreads);
}

// Workers take no signals: those belong to the JavaScript thread. But for what reading a file that was cut short raises (memory.cpp).
void start_workers() {
  sigset_t all, old;
  sigfillset(&all);
  sigdelset(&all, SIGBUS);
  pthread_sigmask(SIG_SETMASK, &all, &old);
  while (pool.started < pool.threads - 1) {
    pthread_t thread;
    if (pthread_create(&thread, nullptr, worker, (void*)(intptr_t)(pool.started + 1)) != 0) break;
    pthread_detach(thread);
    pool.started++;
  }
  pthread_sigmask(SIG_SETMASK, &old, nullptr);
}

struct Block {
  void* address;
  size_t bytes;
};
__thread Block blocks[kScratchSlots];
pthread_key_t blocks_key;
pthread_once_t blocks_once = PTHREAD_ONCE_INIT;

void free_blocks(void* all) {
  for (int i = 0; i < kScratchSlots; i++) {
    Block* block = (Block*)all + i;
    if (block->address) munmap(block->address, block->bytes);
    *block = {};
  }
}

}  // namespace

void parallel_for(int64_t tasks, TaskFn fn, void* context) {
  if (tasks <= 1 || tasks > UINT32_MAX || thread_count() == 1 || pthread_mutex_trylock(&pool.job) != 0) {
    for (int64_t task = 0; task < tasks; task++) {
      after = task + 1 < tasks ? task + 1 : -1;
      fn(context, task);
    }
    return;
  }
  pool.fn = fn;
  pool.context = context;
  pool.tasks = tasks;
  pool.done = 0;
  const int32_t job = (int32_t)((uint32_t)(pool.ticket >> 32) + 1);
  __atomic_store_n(&pool.ticket, (uint64_t)(uint32_t)job << 32 | (uint32_t)tasks, __ATOMIC_SEQ_CST);
  if (__atomic_load_n(&pool.sleepers, __ATOMIC_SEQ_CST)) wake_all();
  run_tasks();
  const auto finished = [job] { return __atomic_load_n(&pool.finished, __ATOMIC_SEQ_CST) == job; };
  while (!spin(finished)) {
    __atomic_store_n(&pool.caller_sleeps, 1, __ATOMIC_SEQ_CST);
    const int32_t last = __atomic_load_n(&pool.finished, __ATOMIC_SEQ_CST);
    if (last != job) futex_wait(&pool.finished, last);
    __atomic_store_n(&pool.caller_sleeps, 0, __ATOMIC_SEQ_CST);
  }
  pthread_mutex_unlock(&pool.job);
}

int64_t task_after() { return after; }

void start_beside(TaskFn fn, void* context) {
  if (thread_count() == 1 || !change_beside(kNone, kPrepared)) return;
  pool.beside_fn = fn;
  __atomic_store_n(&pool.beside_context, context, __ATOMIC_RELEASE);
  __atomic_store_n(&pool.beside, kAsked, __ATOMIC_SEQ_CST);
  if (__atomic_load_n(&pool.sleepers, __ATOMIC_SEQ_CST)) wake_all();
}

void finish_beside(void* context) {
  const auto finished = [context] { return __atomic_load_n(&pool.beside, __ATOMIC_SEQ_CST) == kNone || __atomic_load_n(&pool.beside_context, __ATOMIC_ACQUIRE) != context; };
  if (finished() || change_beside(kAsked, kNone)) return;
  while (!finished()) {
    if (!spin([&] { return work_waits() || finished(); })) sched_yield();
    run_tasks();
  }
}

int thread_count() { return __atomic_load_n(&pool.threads, __ATOMIC_RELAXED); }

void set_thread_count(int threads) {
  pthread_mutex_lock(&pool.job);
  __atomic_store_n(&pool.threads, threads < 1 ? 1 : threads > kMaxThreads ? kMaxThreads : threads, __ATOMIC_SEQ_CST);
  start_workers();
  wake_all();
  pthread_mutex_unlock(&pool.job);
}

void* scratch(int slot, size_t bytes) {
  Block* block = &blocks[slot];
  if (block->bytes >= bytes) return block->address;
  constexpr size_t huge = 2 << 20;  // whole huge pages: packed panels should not miss in the TLB
  if (block->address) munmap(block->address, block->bytes);
  const size_t size = (bytes + huge - 1) / huge * huge;
  void* address = mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (address == MAP_FAILED) {
    fprintf(stderr, "switchyard: out of memory: a compute thread asked for %zu bytes of scratch\n", size);
    abort();
  }
  madvise(address, size, MADV_HUGEPAGE);
  *block = {address, size};
  pthread_once(&blocks_once, [] { pthread_key_create(&blocks_key, free_blocks); });
  pthread_setspecific(blocks_key, blocks);
  return address;
}

}  // namespace sw
