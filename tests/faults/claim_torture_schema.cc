#include "tests/faults/claim_torture_schema.h"

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <stdexcept>

namespace outfall::test::torture {

namespace {

constexpr const char* kClaim = "0002_claim";

// Reads a migration as `outfall migrate` does: without psql's lines, and with the schema's name.
std::string read_migration(const std::filesystem::path& path) {
  std::ifstream file(path);
  std::string text;
  for (std::string line; std::getline(file, line);) {
    if (!line.starts_with('\\')) text += line + "\n";
  }
  const std::string variable = ":\"schema\"";
  for (std::size_t at = text.find(variable); at != std::string::npos; at = text.find(variable))
    text.replace(at, variable.size(), "outbox");
  return text;
}

void apply(std::string& text, const Patch& patch) {
  const std::size_t at = text.find(patch.find);
  if (at == std::string::npos || text.find(patch.find, at + 1) != std::string::npos) {
    throw std::runtime_error("this text must occur exactly once in " + patch.migration + ": " +
                             patch.find);
  }
  text.replace(at, patch.find.size(), patch.replace);
}

// A stop is a shared advisory lock, taken and given back by the sessions that were told to: a test
// that holds it exclusively stops them.
std::vector<Patch> of_the_torture() {
  const auto before = [](const char* place, const std::string& text) {
    return Patch{kClaim, text, "  PERFORM stop_here('" + std::string(place) + "');\n" + text};
  };
  return {
      // What spares a worker the effects of a clock that is set back would hide what is left out.
      {kClaim, "interval := '1 second';", "interval := '0 seconds';"},
      {kClaim, "CREATE FUNCTION claim(",
       "CREATE FUNCTION stop_here(p_place text) RETURNS void LANGUAGE plpgsql VOLATILE AS $$\n"
       "BEGIN\n"
       "  IF current_setting('torture.stop', true) = p_place THEN\n"
       "    PERFORM pg_advisory_lock_shared(4711, hashtext(p_place));\n"
       "    PERFORM pg_advisory_unlock_shared(4711, hashtext(p_place));\n"
       "  END IF;\n"
       "END;\n$$;\nCREATE FUNCTION claim("},
      before(kAfterStreamLock, "  -- 2. Leases: "),
      before(kAfterLeases, "  -- 3. Does anything stand in the way?"),
      before(kBeforePick, "  -- 4. Pick, "),
      before(kAfterPick,
             "    SELECT CASE WHEN s.is_called THEN s.last_value ELSE 0 END INTO sequence_last"),
      before(kBeforeLease, "  -- 5. The lease.")};
}

}  // namespace

void install_schema(PgClient& database, const std::vector<Patch>& patches) {
  std::vector<std::filesystem::path> files;
  for (const auto& entry : std::filesystem::directory_iterator(OUTFALL_MIGRATIONS_FOLDER)) {
    if (entry.path().extension() == ".sql") files.push_back(entry.path());
  }
  std::sort(files.begin(), files.end());
  std::vector<Patch> all = patches;
  for (Patch& stop : of_the_torture()) all.push_back(std::move(stop));
  std::size_t applied = 0;
  for (const std::filesystem::path& file : files) {
    std::string text = read_migration(file);
    for (const Patch& patch : all) {
      if (patch.migration != file.stem()) continue;
      apply(text, patch);
      ++applied;
    }
    database.exec(text);
  }
  if (applied != all.size())
    throw std::runtime_error("a patch names a migration that is not there");
}

TortureDatabase::TortureDatabase(const std::vector<Patch>& patches) {
  PgClient client = database_.connect();
  install_schema(client, patches);
}

PgClient TortureDatabase::connect() const {
  PgClient client = database_.connect();
  client.exec("SET search_path = outbox");
  return client;
}

Stop::Stop(const TortureDatabase& database, const char* place)
    : control_(database.connect()), place_(place) {
  (void)control_.query("SELECT pg_advisory_lock(4711, hashtext($1))", {place_});
}

void Stop::wait_until_reached() {
  wait_until(
      [this] {
        return control_.number(
                   "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND classid = 4711"
                   " AND objid = hashtext($1)::oid AND objsubid = 2 AND NOT granted",
                   {place_}) > 0;
      },
      "a claim to stop at " + place_);
}

void Stop::release() {
  if (released_) return;
  released_ = true;
  (void)control_.query("SELECT pg_advisory_unlock(4711, hashtext($1))", {place_});
}

}  // namespace outfall::test::torture
