#pragma once

#include <string>

#include "store/outbox_store.h"
#include "store/postgres/connection.h"

namespace outfall::postgres {

// Puts the rows of leased_entries(), in the order of its columns, into the batch, whose views point
// into them from then on: nothing but a pointer is copied of a payload. Throws StoreError (defect)
// where a row is not what the function returns; the batch is then of no use.
void fill_batch(LeasedBatch& batch, const Result& rows, const std::string& stream);

}  // namespace outfall::postgres
