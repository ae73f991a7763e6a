#pragma once

#include <cstdint>
#include <stdexcept>
#include <string>

namespace outfall {

// What a store call failed of, as far as the caller must tell it apart.
enum class StoreErrorKind : std::uint8_t {
  unavailable,  // no connection, or it was lost: the call may or may not have taken effect
  read_only,    // a standby, or default_transaction_read_only: wait for the primary
  timeout,      // the server gave the statement up, by a timeout or for want of disk or memory: it
                // took no effect
  conflict,     // deadlock or serialisation: it took no effect, try again
  denied,       // the role lacks a right
  schema,       // tables or functions are missing or of another version
  refused,      // an operator's request that the entry's state forbids; the message says why
  defect,       // anything else: a bug or a damaged database
};

// As in the logs' field `kind`.
[[nodiscard]] const char* to_string(StoreErrorKind kind) noexcept;

// How every call of the store fails. what() is one line for operators, without a connection's
// secrets and without payloads; the hint, where there is one, says what to do about it.
class StoreError : public std::runtime_error {
 public:
  StoreError(StoreErrorKind kind, const std::string& message, std::string hint = {},
             std::string code = {})
      : std::runtime_error(message), kind_(kind), hint_(std::move(hint)), code_(std::move(code)) {}
  [[nodiscard]] StoreErrorKind kind() const noexcept { return kind_; }
  [[nodiscard]] const std::string& hint() const noexcept { return hint_; }
  // The database's own code, such as an SQLSTATE; empty where it gave none.
  [[nodiscard]] const std::string& code() const noexcept { return code_; }
  // The session that threw it must not be used again.
  [[nodiscard]] bool session_lost() const noexcept {
    return kind_ == StoreErrorKind::unavailable || kind_ == StoreErrorKind::read_only;
  }

 private:
  StoreErrorKind kind_;
  std::string hint_;
  std::string code_;
};

}  // namespace outfall
