#pragma once

#include <string>

namespace outfall::test {

// The body of what is at an URL, whatever its status. Apart from admin_client.h, whose names the
// scripted server of tests/support has too.
[[nodiscard]] std::string body_at(const std::string& url);

}  // namespace outfall::test
