#pragma once

#include <array>
#include <string_view>

namespace outfall {

// The secret that allows changes of state. Only its digest is kept, and a comparison takes the same
// time whatever is wrong and however long it is. A value; not changed while another thread reads
// it.
class BearerToken {
 public:
  // An empty token allows nothing.
  explicit BearerToken(std::string_view token);

  [[nodiscard]] bool is_set() const noexcept { return is_set_; }
  // `authorization` is the header's value: "Bearer <token>", the scheme in any case.
  [[nodiscard]] bool allows(std::string_view authorization) const;

 private:
  using Digest = std::array<unsigned char, 32>;
  [[nodiscard]] static Digest digest(std::string_view text);

  bool is_set_;
  Digest digest_;
};

}  // namespace outfall
