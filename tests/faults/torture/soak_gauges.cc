#include "tests/faults/torture/soak_gauges.h"

#include <algorithm>

#include "tests/faults/torture/soak_bounds.h"
#include "tests/faults/torture/soak_look.h"

namespace outfall::torture {

namespace {

constexpr double kMebibyte = 1 << 20;

}  // namespace

void look_at_soak(const Servers& servers, const std::string& database,
                  const std::vector<std::unique_ptr<Worker>>& workers, double share,
                  Gauges& gauges) {
  std::int64_t memory = 0;
  std::int64_t files = 0;
  for (const auto& worker : workers) {
    if (worker->pid() == 0) continue;
    const std::int64_t bytes = rss_bytes(worker->pid());
    if (worker == workers.front())
      gauges.add(kOldestMemory, share, static_cast<double>(bytes) / kMebibyte);
    memory = std::max(memory, bytes);
    files = std::max(files, open_files(worker->pid()));
  }
  gauges.add(kWorkerMemory, share, static_cast<double>(memory) / kMebibyte);
  gauges.add(kWorkerFiles, share, static_cast<double>(files));
  try {
    test::PgClient client = servers.connect(database);
    const std::vector<double> values = look_at_database(client);
    for (std::size_t i = 0; i < kSoakOfDatabase.size(); ++i)
      gauges.add(kSoakOfDatabase[i], share, values.at(i));
  } catch (const test::PgError&) {
    // It is away just now, which is what some faults are about.
  }
}

}  // namespace outfall::torture
