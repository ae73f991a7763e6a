#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace outfall {

// The connection string with every value that could be a secret replaced by "***": the password in
// the user part of a URI, and every parameter that is not known to be harmless (so `password`,
// `sslpassword` and whatever libpq adds later). A string that does not parse becomes "***" as a
// whole: it may be a password with a typing error in front. Pure.
[[nodiscard]] std::string redact_conninfo(std::string_view conninfo);

// What is wrong with a connection string that libpq would not take, or with which it could never
// connect; nullopt where it can be tried. Quotes nothing of it. Connects to nothing.
[[nodiscard]] std::optional<std::string> conninfo_problem(std::string_view conninfo);

}  // namespace outfall
