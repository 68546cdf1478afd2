// Ops whose arguments are numbers can be run from a list: one call into the addon for many of them, which lets JavaScript prepare all of a layer at once. In
// between products its own code and data leave the caches, and each return to it costs 10 to 20 us.
#include <pthread.h>

#include "binding.h"

namespace sw {
namespace {

constexpr int kMostCommands = 64;
Op commands[kMostCommands];
int command_count = 0;
pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

// commands(): names of the ops that lists can hold, in the order of their numbers.
napi_value op_commands(napi_env env, napi_callback_info) {
  napi_value names;
  napi_create_array_with_length(env, command_count, &names);
  for (int i = 0; i < command_count; i++) {
    napi_value name;
    napi_create_string_utf8(env, commands[i].name, NAPI_AUTO_LENGTH, &name);
    napi_set_element(env, names, i, name);
  }
  return names;
}

// run(list, length): the ops in the first `length` elements of a Float64Array, until one throws. Each: its number, the number of its arguments, the
// length of the list of addresses among them (0: none), the arguments, the addresses.
napi_value op_run(napi_env env, napi_callback_info info) {
  Args args(env, info, "run", 2, 0);
  const double* list = args.list();
  const int64_t length = args.integer(1, "length", 0, args.list_length());
  for (int64_t at = 0; at < length && args.ok();) {
    const auto field = [&](int i, int64_t most) { return at + i < length && list[at + i] >= 0 && list[at + i] <= (double)most ? (int64_t)list[at + i] : -1; };
    const int64_t op = field(0, command_count - 1), count = field(1, Args::kMax), addresses = field(2, length), arguments = at + 3;
    at = arguments + count + addresses;
    if (op < 0 || count < 0 || addresses < 0 || at > length) {
      args.fail("the list has no op that ends before its end");
      break;
    }
    const Command command = {list + arguments, (int)count, list + arguments + count, (size_t)addresses};
    Args::command = &command;
    commands[op].fn(env, nullptr);
    Args::command = nullptr;
    bool thrown = false;
    napi_is_exception_pending(env, &thrown);
    if (thrown) break;
  }
  return nullptr;
}

const Op ops[] = {{"commands", op_commands}, {"run", op_run}};

}  // namespace

void export_commands(napi_env env, napi_value exports, const Op* list, int count) {
  export_ops(env, exports, list, count);
  // A second environment of the process exports the same once more.
  pthread_mutex_lock(&lock);
  for (int i = 0; i < count; i++) {
    int known = 0;
    while (known < command_count && commands[known].fn != list[i].fn) known++;
    if (known == command_count && known < kMostCommands) commands[command_count++] = list[i];
  }
  pthread_mutex_unlock(&lock);
}

void export_lists(napi_env env, napi_value exports) { export_ops(env, exports, ops, sizeof ops / sizeof *ops); }

}  // namespace sw
