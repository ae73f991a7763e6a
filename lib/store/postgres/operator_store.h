#pragma once

#include "store/operator_store.h"
#include "store/postgres/connection.h"

namespace outfall::postgres {

// What people do with an outbox in PostgreSQL; see OperatorStore. The constructor connects, and
// throws a StoreError of kind schema when the schema is not one that this binary works with.
class PostgresOperatorStore final : public OperatorStore {
 public:
  explicit PostgresOperatorStore(const ConnectOptions& options);

  [[nodiscard]] bool standby() const override { return connection_.standby(); }
  [[nodiscard]] WallTime now() override;
  [[nodiscard]] std::string role() override;
  [[nodiscard]] std::string status(std::optional<Streams> streams) override;
  [[nodiscard]] std::string explain(const Uuid& envelope_id,
                                    std::optional<Streams> streams) override;
  [[nodiscard]] std::optional<Uuid> envelope_of(EntryId entry_id) override;
  [[nodiscard]] std::optional<std::vector<std::string>> served(Streams streams) override;

  OperationRecord retry(const EntryTarget& entry, const Requester& by) override;
  OperationRecord dead_letter(const EntryTarget& entry, bool hold_key,
                              const Requester& by) override;
  OperationRecord discard(const EntryTarget& entry, const Requester& by) override;
  OperationRecord pause_stream(const std::string& stream, const Requester& by) override;
  OperationRecord resume_stream(const std::string& stream, const Requester& by) override;
  OperationRecord pause_destination(const std::string& stream, const std::string& lane,
                                    const Requester& by) override;
  OperationRecord resume_destination(const std::string& stream, const std::string& lane,
                                     const Requester& by) override;

  [[nodiscard]] std::vector<DeadLetter> dead_letters(const DeadLetterFilter& filter,
                                                     std::int32_t limit) override;
  [[nodiscard]] DeadLetterContent dead_letter_content(const EntryTarget& entry) override;

  [[nodiscard]] std::string count_dead_letters(const DeadLetterFilter& filter,
                                               std::optional<std::int32_t> limit) override;
  [[nodiscard]] std::vector<DeadLetterContent> export_dead_letters(const DeadLetterFilter& filter,
                                                                   std::int32_t limit) override;
  Mended mend(const MendRequest& request, bool dry_run, const Requester& by) override;

  std::string create_job(const JobRequest& request, const Uuid& runner,
                         const Requester& by) override;
  JobStep run_job(JobId job, const Uuid& runner) override;
  std::string pause_job(JobId job, const Requester& by) override;
  std::string resume_job(JobId job, const Uuid& runner, std::optional<double> per_second,
                         std::optional<std::int32_t> in_flight, const Requester& by) override;
  std::string abort_job(JobId job, const Requester& by) override;
  [[nodiscard]] std::string job(JobId job) override;
  [[nodiscard]] std::vector<std::string> jobs(const std::string& state,
                                              std::int32_t limit) override;

 private:
  // Calls a function of the SQL API; what it refuses becomes an OperatorRefusal.
  Result call(std::string_view function, std::string_view arguments, const Params& params);
  // The only column of the only row of a function that returns a document.
  std::string document(std::string_view function, std::string_view arguments, const Params& params);
  OperationRecord operate(std::string_view function, std::string_view arguments, Params params,
                          const Requester& by);

  Connection connection_;
};

}  // namespace outfall::postgres
