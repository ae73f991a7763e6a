#pragma once

#include <cstdint>
#include <sys/types.h>

namespace outfall::bench {

// User and system CPU time of a process so far, in seconds, from /proc; of its live threads.
[[nodiscard]] double cpu_seconds(pid_t pid);

// The same, of its ended threads as well, in ticks of 10 ms.
[[nodiscard]] double process_cpu_seconds(pid_t pid);

// The same of a process and all its descendants, those that have ended included.
[[nodiscard]] double tree_cpu_seconds(pid_t pid);

// The same of the calling thread.
[[nodiscard]] double thread_cpu_seconds();

// The most memory that the process has had resident (VmHWM).
[[nodiscard]] std::int64_t peak_rss_bytes(pid_t pid);

// CPU seconds that the host of a virtual machine has kept from it, of all its CPUs since it started
// (proc_stat(5): steal).
[[nodiscard]] double stolen_cpu_seconds();

}  // namespace outfall::bench
