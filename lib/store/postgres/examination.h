#pragma once

#include <span>
#include <string>
#include <string_view>

#include "core/clock.h"
#include "store/outbox_store.h"
#include "store/postgres/connection.h"

namespace outfall::postgres {

// One file of sql/doctor or sql/top. Its only parameter is the name of the schema, its answer one
// text: JSON.
struct NamedStatement {
  std::string_view name;  // "doctor/server"
  std::string_view text;
};

// Those that this binary was built with. Static data.
[[nodiscard]] std::span<const NamedStatement> named_statements();

// Looks at a server, and at the outbox in it, for `outfall doctor` and `outfall top`. It only
// reads, and also where a worker could not work: on a standby, and doctor without the schema or
// with too few rights. That is why its statements are no functions of the schema.
//
// One thread at a time; every call blocks for one round trip, bounded by the configured timeouts,
// and throws StoreError, as does the constructor, which connects.
class Examination {
 public:
  explicit Examination(ConnectOptions options);

  // The answer to sql/NAME.sql.
  [[nodiscard]] std::string ask(std::string_view name);
  [[nodiscard]] SchemaState schema_state();
  // Throws a StoreError of kind schema where the database's encoding is another one than UTF8.
  void check_encoding();
  // What applied migrations are, compared with those of this binary: empty where all is well.
  // Throws a StoreError of kind schema where they differ.
  [[nodiscard]] std::string schema_remark();
  [[nodiscard]] WallTime now();  // by the server's clock

 private:
  Connection connection_;
};

}  // namespace outfall::postgres
