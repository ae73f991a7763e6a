#include "tests/integration/security_injection.h"

namespace outfall::test {

const std::vector<std::string> kTexts = {
    "'; DROP TABLE outbox.entries; --",
    "\"; DROP SCHEMA outbox CASCADE; --",
    "\\'; SELECT pg_terminate_backend(pid) FROM pg_stat_activity; --",
    "' OR '1'='1",
    "$1",
    "$$; DELETE FROM outbox.entries; $$",
    "{\"a\",NULL}",
    "NULL",
    "%s%n%1$s",
    ":\"schema\" \\! true",
    "`id` $(id) ${HOME}",
    "a,b|c;d",
    "\\x41\\u0041",
    "\u00e4\u202e\U0001F600",
};

const std::vector<std::string> kFewTexts(kTexts.begin(), kTexts.begin() + 3);

std::string SecurityInjection::inventory() {
  return sql_.value(
      "SELECT string_agg(x, ' ' ORDER BY x) FROM (SELECT relname::text || relkind::text x FROM "
      "pg_class WHERE relnamespace = 'outbox'::regnamespace UNION ALL SELECT proname FROM pg_proc "
      "WHERE pronamespace = 'outbox'::regnamespace UNION ALL SELECT rolname FROM pg_roles WHERE "
      "rolname LIKE 'outbox%') y");
}

EntryId SecurityInjection::add(const std::string& text) {
  const std::string headers =
      boost::json::serialize(boost::json::object{{"ext", text}, {"X " + text, text}});
  return sql_.number(
      "INSERT INTO entries (stream, key, type, source, subject, content_type, data_schema, "
      "headers, payload) VALUES ('orders', $1, $1, $1, $1, $3, $1, $2, to_json($1::text)) "
      "RETURNING id",
      {text, headers, json_type(text)});
}

const std::string& SecurityInjection::new_job() {
  job_ = sql_.value(
      "SELECT create_job('replay', p_stream => 'orders', p_actor => 'ana', p_reason => 'x') ->> "
      "'job_id'");
  return job_;
}

}  // namespace outfall::test
