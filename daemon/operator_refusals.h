#pragma once

#include <string>

#include "daemon/admin/route.h"
#include "daemon/commands.h"
#include "store/operator_store.h"

// What a failed operation answers over HTTP: the same messages and hints as on the command line, in
// the words of HTTP. Pure.

namespace outfall {

// `role` is who this worker is at the database, as SQL writes it; empty where nobody could ask. A
// defect is not answered here: it is thrown on, to become a 500 and a line in the log.
[[nodiscard]] Response refusal(const StoreError& error, const std::string& role);
// What is named and not there (404), or asked for in a wrong way (400).
[[nodiscard]] Response refusal(const CommandError& error);
// There was no connection: nothing has begun.
[[nodiscard]] Response no_database(const StoreError& error);

}  // namespace outfall
