#include "emitters/webhook/signature.h"

#include <array>
#include <stdexcept>

#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/params.h>

#include "core/text.h"

namespace outfall::webhook {
namespace {

constexpr std::string_view kSymmetric = "whsec_";
constexpr std::string_view kAsymmetric = "whsk_";
constexpr std::size_t kSeedBytes = 32;  // of Ed25519
constexpr std::size_t kHmacBytes = 32;
constexpr std::size_t kEd25519Bytes = 64;
// What the specification wants of a shared secret.
constexpr std::size_t kMinSecretBytes = 24;
constexpr std::size_t kMaxSecretBytes = 64;

[[noreturn]] void cannot_sign() {
  throw std::runtime_error("OpenSSL cannot sign");
}

void require(int result) {
  if (result != 1) cannot_sign();
}

std::optional<std::string> from_base64(std::string_view text) {
  while (text.ends_with('=')) text.remove_suffix(1);
  std::string padded(text);
  padded.append((4 - text.size() % 4) % 4, '=');
  std::string bytes(padded.size() / 4 * 3, '\0');
  const int decoded = EVP_DecodeBlock(reinterpret_cast<unsigned char*>(bytes.data()),
                                      reinterpret_cast<const unsigned char*>(padded.data()),
                                      static_cast<int>(padded.size()));
  if (decoded < 0 || text.size() % 4 == 1) return std::nullopt;
  bytes.resize(static_cast<std::size_t>(decoded) - (padded.size() - text.size()));
  return bytes;
}

const unsigned char* data_of(std::string_view text) {
  return reinterpret_cast<const unsigned char*>(text.data());
}

}  // namespace

struct Signer::Key {
  Key() = default;
  Key(const Key&) = delete;
  Key& operator=(const Key&) = delete;
  ~Key() {
    EVP_MAC_CTX_free(mac);
    EVP_PKEY_free(pair);
    EVP_MD_CTX_free(digest);
  }

  void use_secret(const std::string& secret) {
    EVP_MAC* const hmac = EVP_MAC_fetch(nullptr, "HMAC", nullptr);
    mac = hmac != nullptr ? EVP_MAC_CTX_new(hmac) : nullptr;
    EVP_MAC_free(hmac);
    if (mac == nullptr) cannot_sign();
    std::string name = "SHA256";
    const std::array<OSSL_PARAM, 2> parameters{
        OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST, name.data(), 0),
        OSSL_PARAM_construct_end()};
    require(EVP_MAC_init(mac, data_of(secret), secret.size(), parameters.data()));
  }

  void use_seed(const std::string& seed) {
    pair = EVP_PKEY_new_raw_private_key(EVP_PKEY_ED25519, nullptr, data_of(seed), kSeedBytes);
    digest = EVP_MD_CTX_new();
    if (pair == nullptr || digest == nullptr) cannot_sign();
  }

  // The key is kept from the first init, which costs twice as much as the whole rest.
  void append_v1(std::string& out, std::string_view prefix, std::string_view body) const {
    std::array<unsigned char, kHmacBytes> bytes{};
    std::size_t size = 0;
    require(EVP_MAC_init(mac, nullptr, 0, nullptr));
    require(EVP_MAC_update(mac, data_of(prefix), prefix.size()));
    require(EVP_MAC_update(mac, data_of(body), body.size()));
    require(EVP_MAC_final(mac, bytes.data(), &size, bytes.size()));
    out += "v1,";
    append_base64(out, {reinterpret_cast<const char*>(bytes.data()), size});
  }

  void append_v1a(std::string& out, std::string_view content) const {
    std::array<unsigned char, kEd25519Bytes> bytes{};
    std::size_t size = bytes.size();
    EVP_MD_CTX_reset(digest);
    require(EVP_DigestSignInit(digest, nullptr, nullptr, nullptr, pair));
    require(EVP_DigestSign(digest, bytes.data(), &size, data_of(content), content.size()));
    out += "v1a,";
    append_base64(out, {reinterpret_cast<const char*>(bytes.data()), size});
  }

  EVP_MAC_CTX* mac = nullptr;    // of a shared secret
  EVP_PKEY* pair = nullptr;      // of an Ed25519 key
  EVP_MD_CTX* digest = nullptr;  // beside `pair`
};

Signer::Signer() = default;
Signer::~Signer() = default;
Signer::Signer(Signer&&) noexcept = default;
Signer& Signer::operator=(Signer&&) noexcept = default;

std::optional<std::string> Signer::add_key(std::string_view key) {
  const bool symmetric = key.starts_with(kSymmetric);
  if (!symmetric && !key.starts_with(kAsymmetric)) {
    return "it begins neither with whsec_ nor with whsk_";
  }
  auto bytes = from_base64(key.substr((symmetric ? kSymmetric : kAsymmetric).size()));
  if (!bytes) return "what follows its prefix is not base64";
  auto made = std::make_unique<Key>();
  std::optional<std::string> problem;
  if (symmetric) {
    if (bytes->size() < kMinSecretBytes || bytes->size() > kMaxSecretBytes) {
      problem = "it has " + std::to_string(bytes->size()) + " bytes, and must have 24 to 64";
    } else {
      made->use_secret(*bytes);
    }
  } else if (bytes->size() != kSeedBytes && bytes->size() != 2 * kSeedBytes) {
    problem = "it has " + std::to_string(bytes->size()) +
              " bytes; an Ed25519 key has 32, or 64 with its public half";
  } else {
    made->use_seed(*bytes);
  }
  OPENSSL_cleanse(bytes->data(), bytes->size());
  if (!problem) keys_.push_back(std::move(made));
  return problem;
}

void Signer::append_signatures(std::string& out, std::string_view id,
                               std::int64_t timestamp_seconds, std::string_view body) {
  std::string& content = signed_content_;
  content.assign(id);
  content += '.';
  content += std::to_string(timestamp_seconds);
  content += '.';
  const std::size_t prefix = content.size();
  bool first = true;
  for (const auto& key : keys_) {
    if (!first) out += ' ';
    first = false;
    if (key->mac != nullptr) {
      key->append_v1(out, std::string_view(content).substr(0, prefix), body);
    } else {
      if (content.size() == prefix) content += body;
      key->append_v1a(out, content);
    }
  }
  constexpr std::size_t kKept = 64 << 10;
  if (content.capacity() > kKept) std::string().swap(content);
}

std::vector<std::string> Signer::public_keys() const {
  std::vector<std::string> all;
  for (const auto& key : keys_) {
    if (key->pair == nullptr) continue;
    std::array<unsigned char, kSeedBytes> bytes{};
    std::size_t size = bytes.size();
    require(EVP_PKEY_get_raw_public_key(key->pair, bytes.data(), &size));
    std::string text = "whpk_";
    append_base64(text, {reinterpret_cast<const char*>(bytes.data()), size});
    all.push_back(std::move(text));
  }
  return all;
}

}  // namespace outfall::webhook
