#pragma once

#include <memory>
#include <vector>

#include "tests/faults/torture/database.h"
#include "tests/faults/torture/gauges.h"
#include "tests/faults/torture/worker.h"

namespace outfall::torture {

// Looks once at everything that has a bound. What is away at the moment is left out. Blocks for the
// database, for two seconds where it does not answer.
void look_at_soak(const Servers& servers, const std::string& database,
                  const std::vector<std::unique_ptr<Worker>>& workers, double share,
                  Gauges& gauges);

}  // namespace outfall::torture
