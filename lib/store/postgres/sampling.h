#pragma once

#include <span>
#include <string>
#include <vector>

#include "store/postgres/connection.h"
#include "store/sampling.h"

namespace outfall::postgres {

class ClaimFloors;

// The sampler's connection; see SamplingSession. On a direct connection the session is elected once
// and holds its advisory lock for as long as it lives. Behind a transaction pooler the lock lasts
// for one look, so that the workers take turns and each of them samples.
class PostgresSampling final : public SamplingSession {
 public:
  PostgresSampling(const ConnectOptions& options, std::vector<std::string> streams,
                   ClaimFloors& floors);

  [[nodiscard]] std::int32_t schema_version() const noexcept override { return schema_version_; }
  [[nodiscard]] std::optional<DatabaseLook> look(std::int32_t count_limit) override;
  ReceiptsMaintenance maintain_receipts(Milliseconds retention) override;

 private:
  Result call(std::string_view function, std::string_view arguments, const Params& params);
  bool elected(bool for_transaction);
  DatabaseLook read(std::int32_t count_limit);
  void read_streams(DatabaseLook& look, std::int32_t count_limit);
  void read_unbound(DatabaseLook& look, std::int32_t count_limit);

  Connection connection_;
  const std::vector<std::string> streams_;
  ClaimFloors& floors_;
  std::int32_t schema_version_ = 0;
  bool elected_ = false;
};

}  // namespace outfall::postgres
