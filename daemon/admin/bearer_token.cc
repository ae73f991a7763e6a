#include "daemon/admin/bearer_token.h"

#include <stdexcept>
#include <strings.h>

#include <openssl/crypto.h>
#include <openssl/evp.h>

namespace outfall {

BearerToken::BearerToken(std::string_view token) : is_set_(!token.empty()), digest_(digest(token)) {
}

BearerToken::Digest BearerToken::digest(std::string_view text) {
  Digest out{};
  if (EVP_Digest(text.data(), text.size(), out.data(), nullptr, EVP_sha256(), nullptr) != 1) {
    throw std::runtime_error("OpenSSL cannot compute SHA-256");
  }
  return out;
}

bool BearerToken::allows(std::string_view authorization) const {
  constexpr std::string_view kScheme = "Bearer ";
  if (authorization.size() < kScheme.size() ||
      strncasecmp(authorization.data(), kScheme.data(), kScheme.size()) != 0) {
    return false;
  }
  // Digests have one length, so the comparison tells nothing about the token's.
  const Digest given = digest(authorization.substr(kScheme.size()));
  return CRYPTO_memcmp(given.data(), digest_.data(), digest_.size()) == 0 && is_set_;
}

}  // namespace outfall
