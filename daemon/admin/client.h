#pragma once

#include <string>

#include "core/clock.h"

namespace outfall {

// One GET of a worker's admin server, over a connection of its own. Blocks for at most `timeout`,
// beyond the time that looking up a host's name takes. Throws std::runtime_error with a reason
// unless the answer is 200.
[[nodiscard]] std::string admin_get(const std::string& host, const std::string& port,
                                    const std::string& target, Milliseconds timeout);

// The same of the worker at HOST:PORT, where an IPv6 address is in brackets.
[[nodiscard]] std::string admin_get(const std::string& address, const std::string& target,
                                    Milliseconds timeout);

}  // namespace outfall
