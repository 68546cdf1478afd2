// Reads of parts of files in the background: core/reads.h.
#include "../core/reads.h"

#include <errno.h>

#include "../core/memory.h"
#include "binding.h"

namespace sw {
namespace {

// openReads(path): the file's number, or the system's error number, negated.
napi_value op_open(napi_env env, napi_callback_info info) {
  Path path;
  if (!take_path(env, info, path)) return to_number(env, -EINVAL);
  const int file = open_reads(path);
  return to_number(env, file < 0 ? -errno : file);
}

int open_file(Args& args) {
  const int file = (int)args.integer(0, "file", 0, INT32_MAX);
  if (args.ok() && !is_open(file)) args.fail("file %d is not open", file);
  return file;
}

// closeReads(file)
napi_value op_close(napi_env env, napi_callback_info info) {
  Args args(env, info, "closeReads", 1);
  const int file = open_file(args);
  if (args.ok()) close_reads(file);
  return nullptr;
}

// startRead(file, begin, bytes, out, urgent): the read's number.
napi_value op_start(napi_env env, napi_callback_info info) {
  Args args(env, info, "startRead", 5);
  const int file = open_file(args);
  const int64_t begin = args.integer(1, "begin", 0, 1LL << 52), bytes = args.integer(2, "bytes", 1, 1LL << 46), out = args.integer(3, "out", 0, 1LL << 52);
  const int64_t head = begin % kPageBytes;
  if (args.ok() && out % kPageBytes != head) args.fail("out must be as far into a page as byte %lld of the file", (long long)begin);
  args.out<char>(3, "out", bytes);
  if (args.ok() && !is_live(out - head, (head + bytes + kPageBytes - 1) / kPageBytes * kPageBytes, true)) args.fail("the pages around out are not live writable memory of this engine");
  if (!args.ok()) return nullptr;
  const int64_t read = start_read(file, begin, bytes, (char*)out, args.flag(4));
  if (read == 0) args.fail("no memory, or no thread, for another read");
  return to_number(env, read);
}

int64_t live_read(Args& args) {
  const int64_t read = args.integer(0, "read", 1, 1LL << 52);
  if (args.ok() && !is_read(read)) args.fail("read %lld has ended", (long long)read);
  return read;
}

// makeUrgent(read)
napi_value op_urgent(napi_env env, napi_callback_info info) {
  Args args(env, info, "makeUrgent", 1);
  const int64_t read = live_read(args);
  if (args.ok()) make_urgent(read);
  return nullptr;
}

// stopRead(read): bytes that will be missing.
napi_value op_stop(napi_env env, napi_callback_info info) {
  Args args(env, info, "stopRead", 1);
  const int64_t read = live_read(args);
  return args.ok() ? to_number(env, stop_read(read)) : nullptr;
}

// finishRead(read): 0, the system's error number, or -1 where the file has ended before.
napi_value op_finish(napi_env env, napi_callback_info info) {
  Args args(env, info, "finishRead", 1);
  const int64_t read = live_read(args);
  return args.ok() ? to_number(env, finish_read(read)) : nullptr;
}

const Op ops[] = {{"openReads", op_open},    {"closeReads", op_close}, {"startRead", op_start},
                  {"makeUrgent", op_urgent}, {"stopRead", op_stop}, {"finishRead", op_finish}};

}  // namespace

void export_reads(napi_env env, napi_value exports) { export_ops(env, exports, ops); }

}  // namespace sw
