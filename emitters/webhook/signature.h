#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <openssl/types.h>

namespace outfall::webhook {

// Signs requests as Standard Webhooks 1.0.0 says: `v1,…` (HMAC-SHA256) for a key `whsec_…`, `v1a,…`
// (Ed25519) for a key `whsk_…`. With several keys each signs, so that receivers can change from the
// old key to the new one at any time between two rotations.
//
// Used by one thread: the contexts of OpenSSL are kept and re-used. Throws std::runtime_error where
// OpenSSL cannot work, which is out of memory or a build without the algorithm.
class Signer {
 public:
  Signer();
  ~Signer();
  Signer(Signer&&) noexcept;
  Signer& operator=(Signer&&) noexcept;

  // What is wrong with a key, without quoting it, or nullopt when it was taken in.
  [[nodiscard]] std::optional<std::string> add_key(std::string_view key);
  [[nodiscard]] bool empty() const noexcept { return keys_.empty(); }

  // Appends the value of `webhook-signature`: one signature a key, the first key's first.
  void append_signatures(std::string& out, std::string_view id, std::int64_t timestamp_seconds,
                         std::string_view body);

  // The public key, `whpk_…`, of each Ed25519 key, for operators to hand out.
  [[nodiscard]] std::vector<std::string> public_keys() const;

 private:
  struct Key;
  std::vector<std::unique_ptr<Key>> keys_;
  std::string signed_content_;  // for Ed25519, which signs in one go
};

}  // namespace outfall::webhook
