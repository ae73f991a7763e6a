#pragma once

#include <filesystem>
#include <string>

#include "tests/support/temp_folder.h"

namespace outfall::test {

// A certificate authority of the test's own, made by the openssl program, with what it has signed
// in a temporary folder. One thread at a time; throws where openssl fails.
class TestAuthority {
 public:
  explicit TestAuthority(const std::string& name = "test authority");

  struct Pair {
    std::filesystem::path certificate;
    std::filesystem::path key;
  };

  // PEM file of the authority's own certificate.
  [[nodiscard]] std::filesystem::path certificate() const { return folder_ / "authority.pem"; }
  // A certificate for 127.0.0.1 and localhost, or for the names given as openssl writes them
  // ("DNS:a.example"). Fit for servers and for clients, for two days from now on, or from the time
  // that is given in the words of faketime ("10 days ago").
  [[nodiscard]] Pair issue(const std::string& name,
                           const std::string& names = "IP:127.0.0.1,DNS:localhost",
                           const std::string& from = {}) const;

 private:
  TempFolder folder_;
};

}  // namespace outfall::test
