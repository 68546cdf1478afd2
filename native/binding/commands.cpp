// Ops whose arguments are numbers can be run from a list: one call into the addon for many of them, which lets JavaScript prepare all of a layer at once. In
// between products its own code and data leave the caches, and each return to it costs 10 to 20 us.
#include <pthread.h>
#include <stdio.h>

#include "../core/memory.h"
#include "../core/pool.h"
#include "../core/reads.h"
#include "binding.h"

namespace sw {
namespace {

constexpr int kMostCommands = 64;
const NumericOp* commands[kMostCommands];
int command_count = 0;
pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

// commands(): names of the ops that lists can hold, in the order of their numbers.
napi_value op_commands(napi_env env, napi_callback_info) {
  napi_value names;
  napi_create_array_with_length(env, command_count, &names);
  for (int i = 0; i < command_count; i++) {
    napi_value name;
    napi_create_string_utf8(env, commands[i]->name, NAPI_AUTO_LENGTH, &name);
    napi_set_element(env, names, i, name);
  }
  return names;
}

// Where the ops of a list have got to.
struct Progress {
  const double* list;
  int64_t at, length;
  bool stop;  // before the next op
  int64_t stopped;  // by an op: see Args::stop
  char error[kMostError];
};
// Of the list of this JavaScript thread that another thread may be running.
__thread Progress started = {};

// Runs all ops, those after one that fails too: its results mean nothing then, but an update of the optimiser among them must not be lost. Keeps the first
// error. Each: its number, the number of its arguments, the length of the list of addresses among them (0: none), the arguments,
// the addresses.
void run_ops(Progress& p) {
  while (!__atomic_load_n(&p.stop, __ATOMIC_ACQUIRE) && p.stopped == 0) {
    const int64_t at = p.at, arguments = at + 3, length = __atomic_load_n(&p.length, __ATOMIC_ACQUIRE);
    if (at >= length) break;
    const auto field = [&](int i, int64_t most) { return at + i < length && p.list[at + i] >= 0 && p.list[at + i] <= (double)most ? (int64_t)p.list[at + i] : -1; };
    const int64_t op = field(0, command_count - 1), count = field(1, Args::kMax), addresses = field(2, length);
    p.at = arguments + count + addresses;
    if (op < 0 || count < 0 || addresses < 0 || p.at > length) {
      if (p.error[0] == 0) snprintf(p.error, sizeof p.error, "run: the list has no op that ends before its end");
      break;
    }
    Args args({p.list + arguments, (int)count, p.list + arguments + count, (size_t)addresses, p.error}, *commands[op]);
    commands[op]->run(args, args.kernels());
    if (p.error[0] == 0) p.stopped = args.stopped();  // after an op that failed the numbers mean nothing
  }
}

// Returns when no other thread runs ops of it.
void stop(Progress& p) {
  __atomic_store_n(&p.stop, true, __ATOMIC_RELEASE);
  finish_beside(&p);
  p.stop = false;
}

// start(list, length): another thread may run the ops in the first `length` elements of a Float64Array while JavaScript goes on. To the list may only be
// appended until `run` is called with it; of two lists at a time the second waits for that.
napi_value op_start(napi_env env, napi_callback_info info) {
  Args args(env, info, "start", 2, 0);
  const int64_t length = args.integer(1, "length", 0, args.list_length());
  if (!args.ok() || (started.list && started.list != args.list())) return nullptr;
  started.list = args.list();
  __atomic_store_n(&started.length, length, __ATOMIC_RELEASE);
  start_beside([](void* p, int64_t) { run_ops(*(Progress*)p); }, &started);
  return nullptr;
}

// run(list, length): the ops in the first `length` elements that have not been run since they were started, up to one that stops the list: returns its
// number, and goes on when it is called again. Returns 0 at the end; throws what the first op throws that fails.
napi_value op_run(napi_env env, napi_callback_info info) {
  Args args(env, info, "run", 2, 0);
  Progress other = {};
  Progress& p = started.list == nullptr || args.list() == started.list ? started : other;
  stop(p);
  p.list = args.list();
  p.length = args.integer(1, "length", 0, args.list_length());
  if (args.ok()) run_ops(p);
  const int64_t stopped = p.stopped;
  p.stopped = 0;
  if (stopped != 0 && &p == &started) return to_number(env, (double)stopped);
  if (p.error[0]) napi_throw_error(env, "ERR_SWITCHYARD_ENGINE", p.error);
  p = {};
  return to_number(env, 0);
}

const Op ops[] = {{"commands", op_commands}, {"start", op_start}, {"run", op_run}};

}  // namespace

void add_command(const NumericOp& op) {
  pthread_mutex_lock(&lock);
  // A second environment of the process exports the same once more.
  int known = 0;
  while (known < command_count && commands[known] != &op) known++;
  if (known == command_count && known < kMostCommands) commands[command_count++] = &op;
  pthread_mutex_unlock(&lock);
}

void export_lists(napi_env env, napi_value exports) {
  export_ops(env, exports, ops);
  // A JavaScript thread may be terminated at any time, while it prepares a list, or reads are under way: all of it goes with it. Node takes an argument once.
  const auto end = [](void*) {
    stop(started), started = {};
    end_owned_reads();
    release_owned();
  };
  napi_add_env_cleanup_hook(env, end, env);
}

}  // namespace sw
