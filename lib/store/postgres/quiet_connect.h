#pragma once

#include <memory>
#include <string>
#include <vector>

#include <libpq-fe.h>

#include "core/clock.h"

namespace outfall::postgres {

using PgHandle = std::unique_ptr<PGconn, decltype(&PQfinish)>;

// What libpq says, such as PQerrorMessage(), as one line: it breaks off for its advice, and for
// each host that it has tried. Nothing of a null.
[[nodiscard]] std::string libpq_words(const char* text);

// How an attempt to connect ended: with a connection, or with libpq's words for why there is none.
struct Connecting {
  PgHandle connection{nullptr, PQfinish};
  std::string failure = {};
};

// Connects as PQconnectdbParams() does, with these parameters of it (without the closing null and
// with the first one expanded), and blocks for at most `timeout` for each address. It differs in
// that of several hosts each is tried, whatever became of the one before, and in that libpq writes
// nothing to standard error, where our log is: what a server tells beside its answers is dropped
// from the first byte on, and for as long as the connection lives; and of a password file that
// libpq does not read the failure tells.
[[nodiscard]] Connecting quiet_connect(std::vector<const char*> keys,
                                       std::vector<const char*> values, Milliseconds timeout);

}  // namespace outfall::postgres
