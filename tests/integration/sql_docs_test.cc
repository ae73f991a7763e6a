// Goal: docs/reference/sql.md names everything that is in the schema, and its examples run.

#include <fstream>
#include <sstream>

#include "tests/integration/sql_fixture.h"
#include "tests/support/child_process.h"

namespace outfall::test {
namespace {

using testing::HasSubstr;

std::string page(const std::string& name) {
  std::ostringstream text;
  text << std::ifstream(std::string(OUTFALL_DOCS_FOLDER) + "/" + name).rdbuf();
  return text.str();
}

// The contents of all ```sql blocks.
std::string examples(const std::string& text) {
  std::istringstream in(text);
  std::string result;
  bool inside = false;
  for (std::string line; std::getline(in, line);) {
    if (line.starts_with("```")) {
      inside = line == "```sql";
    } else if (inside) {
      result += line + "\n";
    }
  }
  return result;
}

class SqlDocs : public SqlTest {};

TEST_F(SqlDocs, EveryFunctionIsNamed) {
  const std::string text = page("reference/sql.md");
  for (const PgRow& row : sql_.query("SELECT DISTINCT proname FROM pg_proc WHERE pronamespace = "
                                     "'outbox'::regnamespace ORDER BY 1")) {
    EXPECT_TRUE(text.find("`" + *row[0] + "`") != std::string::npos ||
                text.find("`" + *row[0] + "(") != std::string::npos)
        << *row[0];
  }
}

TEST_F(SqlDocs, EveryParameterOfAPublicFunctionIsNamed) {
  const std::string text = page("reference/sql.md");
  const PgRows rows = sql_.query(
      "SELECT DISTINCT p.proname, a.name FROM pg_proc p, unnest(p.proargnames) AS a (name) "
      "WHERE p.pronamespace = 'outbox'::regnamespace AND p.prorettype <> 'trigger'::regtype AND "
      "(has_function_privilege('outbox_producer', p.oid, 'EXECUTE') OR "
      "has_function_privilege('outbox_operator', p.oid, 'EXECUTE')) AND p.proname NOT IN "
      "('search_delivered', 'explain_live_entry', 'receipts_partitions', 'envelope_time', "
      "'utc_text', 'served_streams', 'filter_names')");
  ASSERT_GT(rows.size(), 50U);
  for (const PgRow& row : rows) EXPECT_THAT(text, HasSubstr(*row[1])) << *row[0];
}

TEST_F(SqlDocs, EveryColumnAndConstraintIsNamed) {
  const std::string text = page("reference/sql.md");
  const PgRows columns = sql_.query(
      "SELECT c.relname, a.attname FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid "
      "WHERE c.relnamespace = 'outbox'::regnamespace AND c.relkind IN ('r', 'v', 'p') AND NOT "
      "c.relispartition AND a.attnum > 0 AND NOT a.attisdropped");
  ASSERT_GT(columns.size(), 100U);
  for (const PgRow& row : columns) {
    EXPECT_THAT(text, HasSubstr("`" + *row[1] + "`")) << *row[0];
  }
  for (const PgRow& row :
       sql_.query("SELECT conname FROM pg_constraint WHERE conrelid = 'outbox.entries'::regclass "
                  "AND contype = 'c'")) {
    const std::string rule = row[0]->substr(row[0]->find("_must_"));
    EXPECT_THAT(text, HasSubstr(rule));
  }
}

// What an example names need not be there: class OF says so. Anything else is a mistake in the
// page.
TEST_F(SqlDocs, ExamplesRun) {
  PgClient server = shared_postgres().connect();
  for (const char* role : {"shop", "outfall", "ana", "grafana"}) {
    server.exec(std::string("CREATE ROLE ") + role);
  }
  for (const char* stream : {"orders", "hooks"}) {
    for (int i = 0; i < 3; ++i) {
      const EntryId id = enqueue(stream);
      sql_.query("SELECT dead_letter_entry(p_entry_id => $1, p_actor => 'a', p_reason => 'b')",
                 {std::to_string(id)});
    }
    enqueue(stream);
  }
  for (const std::string name :
       {"reference/sql.md", "operating/dead-letters.md", "operating/replay.md"}) {
    ChildOptions options;
    options.input = "CREATE TABLE orders (order_id int, state text);\n" + examples(page(name));
    ASSERT_GT(options.input->size(), 150U);
    const Finished done =
        run({postgres_program("psql"), "-X", "-q", "-v", "VERBOSITY=sqlstate", database_.dsn()},
            options);
    EXPECT_EQ(done.status.code, 0);
    std::istringstream errors(done.error_output);
    for (std::string line; std::getline(errors, line);) {
      EXPECT_TRUE(line.find("ERROR:  OF0") != std::string::npos ||
                  line.find("ERROR:  42P07") != std::string::npos)
          << name << ": " << line;
    }
  }
}

}  // namespace
}  // namespace outfall::test
