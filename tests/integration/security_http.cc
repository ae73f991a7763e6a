#include "tests/integration/security_http.h"

#include "tests/integration/admin_client.h"

namespace outfall::test {

std::string body_at(const std::string& url) {
  return http_get(url).body;
}

}  // namespace outfall::test
