#include "tests/faults/torture/soak_bounds.h"

namespace outfall::torture {

namespace {

constexpr double kMebibyte = 1 << 20;

}  // namespace

std::vector<Bound> soak_bounds(double rate, int workers) {
  // Autovacuum looks once a minute and needs about as long again; a fault can make it miss a turn.
  const double vacuumed_rows = rate * 180;
  // 450 bytes of payload and the row around them; six indexes take about half as much.
  const double table_mebibytes = vacuumed_rows * 1000 / kMebibyte;
  // Of connections, each worker has its pool of four and those that watch; one fault adds a worker.
  const double connections = 6.0 * (workers + 1);
  // No fault lasts longer than five seconds, and a transaction of a producer no longer than one.
  const double snapshot_seconds = 10;
  const double room = 0.1;
  return {
      {kWorkerMemory, "MiB", 64, 1.2, 2},
      // As old as the soak, where the others are young again and again. A leak of a byte for each
      // of its three million entries shows.
      {kOldestMemory, "MiB", 64, 1.05, 1},
      {kWorkerFiles, "", 64, 1, 2},
      // One more for each: a pool opens its last session when it first needs it, and keeps it.
      {kSoakOfDatabase[0], "", connections, 1, static_cast<double>(workers)},
      {kSoakOfDatabase[1], "rows", vacuumed_rows, 1.5, vacuumed_rows * room},
      {kSoakOfDatabase[2], "rows", vacuumed_rows * room, 1.5, vacuumed_rows * room * room},
      // Files do not get smaller under load.
      {kSoakOfDatabase[3], "MiB", table_mebibytes, 0},
      {kSoakOfDatabase[4], "MiB", table_mebibytes, 0},
      {kSoakOfDatabase[5], "MiB", table_mebibytes * room, 0},
      {kSoakOfDatabase[6], "transactions", rate * snapshot_seconds, 1.5, rate},
      {kSoakOfDatabase[7], "s", snapshot_seconds, 1.5, 1},
      {kSoakOfDatabase[8], "s", snapshot_seconds, 1.5, 1},
      {kSoakOfDatabase[9], "s", 60, 1.5, 1},
  };
}

}  // namespace outfall::torture
