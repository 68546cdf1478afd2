// The thread pool. Tasks own disjoint outputs, so that results do not depend on who runs them.
#pragma once

#include <stddef.h>
#include <stdint.h>

namespace sw {

using TaskFn = void (*)(void* context, int64_t task);

// Runs fn(context, task) for every task in [0, tasks); the caller takes part. Called while another thread's call
// is under way, it runs everything on the caller.
void parallel_for(int64_t tasks, TaskFn fn, void* context);

// For a task while it runs: the one that this thread runs after it, if that is settled, else -1. Not settled are the last tasks of a call, for whoever is
// free first.
int64_t task_after();

// Lets another thread of the pool call fn(context, 0) while the caller goes on; does nothing where there is none, or one does so already.
void start_beside(TaskFn fn, void* context);
// Returns when no other thread calls that with `context` any more, if one did; takes part in what it runs.
void finish_beside(void* context);

// Threads that take part, the caller included.
constexpr int kMaxThreads = 256;
int thread_count();
void set_thread_count(int threads);

// Uninitialised memory of the calling thread, 64-byte aligned, kept between calls: at most kScratchSlots blocks live at a time.
// Slot 0 is for whoever calls parallel_for, slot 1 for tasks, slot 2 for the packed operands of a product.
constexpr int kScratchSlots = 3;
void* scratch(int slot, size_t bytes);

}  // namespace sw
