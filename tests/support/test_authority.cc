#include "tests/support/test_authority.h"

#include <stdexcept>
#include <vector>

#include "tests/support/child_process.h"

namespace outfall::test {
namespace {

void openssl(std::vector<std::string> arguments, const std::string& time = {}) {
  arguments.insert(arguments.begin(), "openssl");
  if (!time.empty()) arguments.insert(arguments.begin(), {"faketime", time});
  const Finished finished = run(std::move(arguments));
  if (finished.status.code != 0) throw std::runtime_error("openssl: " + finished.error_output);
}

}  // namespace

TestAuthority::TestAuthority(const std::string& name) {
  openssl({"req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
           "-days", "2", "-subj", "/CN=" + name, "-keyout", folder_ / "authority.key", "-out",
           certificate(), "-addext", "keyUsage=critical,keyCertSign"});
}

TestAuthority::Pair TestAuthority::issue(const std::string& name, const std::string& names,
                                         const std::string& from) const {
  Pair pair{folder_ / (name + ".pem"), folder_ / (name + ".key")};
  const auto request = folder_ / (name + ".csr");
  const auto extensions = folder_.write(name + ".ext", "subjectAltName=" + names + "\n");
  openssl({"req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-subj",
           "/CN=" + name, "-keyout", pair.key, "-out", request});
  openssl(
      {"x509", "-req", "-in", request, "-CA", certificate(), "-CAkey", folder_ / "authority.key",
       "-CAcreateserial", "-days", "2", "-extfile", extensions, "-out", pair.certificate},
      from);
  return pair;
}

}  // namespace outfall::test
