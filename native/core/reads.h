// Parts of files, read into engine memory by threads of their own while others compute. Pages of the file do not stay in the system's cache.
#pragma once

#include <stddef.h>
#include <stdint.h>

namespace sw {

// Direct reads (O_DIRECT) move whole pages, to addresses that are as far into their page as the bytes are in the file.
constexpr int64_t kPageBytes = 4096;

// Opens a file to be read. Returns -1 and sets errno on failure.
int open_reads(const char* path);

// Whether open_reads returned `file` and close_reads has not had it.
bool is_open(int file);

// No reads of the file may be waiting or running.
void close_reads(int file);

// Starts reading `bytes` bytes from byte `begin` on to `out`, where out % kPageBytes == begin % kPageBytes; the pages around them are
// overwritten too. Urgent reads come before the others, earlier ones before later ones. Returns the read's number, 0 when there is no memory.
// The caller ends it once, with finish_read.
int64_t start_read(int file, int64_t begin, int64_t bytes, char* out, bool urgent);

// Whether this is the number of a read that has not been ended.
bool is_read(int64_t read);

void make_urgent(int64_t read);

// Reads no more of what is not wanted than has begun, and returns how many bytes will be missing. It has to be ended all the same.
int64_t stop_read(int64_t read);

// Whether any read into these bytes is not over; with `wait`, returns when all are.
bool is_being_read(const char* begin, int64_t bytes, bool wait);

// Waits for a read and ends it: 0, an error number of the system, or kFileEnded.
constexpr int kFileEnded = -1;
int finish_read(int64_t read);

// Ends all reads that the calling thread started, and closes the files that it opened.
void end_owned_reads();

}  // namespace sw
