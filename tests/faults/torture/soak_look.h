#pragma once

#include <vector>

#include "tests/support/pg_client.h"

namespace outfall::torture {

// What kSoakOfDatabase names, in its order, of the database that this superuser is connected to.
// Throws test::PgError.
[[nodiscard]] std::vector<double> look_at_database(test::PgClient& client);

}  // namespace outfall::torture
