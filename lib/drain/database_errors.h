#pragma once

#include "store/store_error.h"
#include "telemetry/metrics.h"

namespace outfall {

// What outfall_database_errors_total counts, whoever in a worker asked the database. `connecting`:
// a session was to be opened. Any thread.
void count_database_error(Metrics& metrics, const StoreError& error, bool connecting);

}  // namespace outfall
