#include "store/postgres/quiet_connect.h"

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <map>
#include <netdb.h>
#include <netinet/in.h>
#include <poll.h>
#include <string_view>
#include <sys/stat.h>

namespace outfall::postgres {
namespace {

void drop_notice(void* /*context*/, const PGresult* /*notice*/) {
}

// Takes the options, which may be null.
std::string value_in(PQconninfoOption* options, std::string_view name) {
  const std::unique_ptr<PQconninfoOption, decltype(&PQconninfoFree)> owned(options, PQconninfoFree);
  for (const PQconninfoOption* option = options; option != nullptr && option->keyword != nullptr;
       ++option) {
    if (name == option->keyword && option->val != nullptr) return option->val;
  }
  return {};
}

// The value that libpq uses, wherever it comes from: the URL, a service, the environment.
std::string parameter_of(PGconn* connection, std::string_view name) {
  return value_in(PQconninfo(connection), name);
}

// The file in which libpq would look for a password.
std::string password_file(const char* url) {
  std::string file = value_in(PQconninfoParse(url, nullptr), "passfile");
  if (file.empty()) file = value_in(PQconndefaults(), "passfile");
  if (!file.empty()) return file;
  // NOLINTNEXTLINE(concurrency-mt-unsafe): nobody changes the environment
  const char* home = std::getenv("HOME");
  return home == nullptr ? std::string() : std::string(home) + "/.pgpass";
}

// Why libpq does not read that file, which it would say on standard error; empty where it reads it,
// or where there is none.
std::string password_file_problem(const std::string& file) {
  struct stat status {};
  if (file.empty() || ::stat(file.c_str(), &status) != 0) return {};
  if (!S_ISREG(status.st_mode)) return "the password file " + file + " is not a plain file";
  if ((status.st_mode & (S_IRWXG | S_IRWXO)) == 0) return {};
  return "the password file " + file +
         " is not used, since its group or others have access to it: chmod 0600 helps";
}

struct Parameters {
  std::vector<const char*> keys;
  std::vector<const char*> values;
};

bool names_several_hosts(PGconn* connection) {
  return (parameter_of(connection, "host") + parameter_of(connection, "hostaddr")).find(',') !=
         std::string::npos;
}

// The elements of a list, as many as there are hosts (one holds for all of them); none where one is
// empty, which stands for a default that only libpq knows.
std::vector<std::string> elements_of(const std::string& list, std::size_t hosts) {
  std::vector<std::string> elements;
  std::size_t begin = 0;
  while (begin <= list.size()) {
    const std::size_t end = std::min(list.find(',', begin), list.size());
    if (end == begin) return {};
    elements.push_back(list.substr(begin, end - begin));
    begin = end + 1;
  }
  if (elements.size() == 1 && hosts > 1) elements.resize(hosts, elements.front());
  return elements;
}

// One set of parameters for each of several hosts; none where only libpq can tell them apart.
std::vector<std::map<std::string, std::string>> hosts_of(PGconn* connection) {
  std::vector<std::map<std::string, std::string>> hosts;
  for (const char* name : {"hostaddr", "host", "port"}) {
    const std::string list = parameter_of(connection, name);
    if (list.empty()) continue;
    const std::vector<std::string> elements = elements_of(list, hosts.size());
    if (elements.empty() || (!hosts.empty() && elements.size() != hosts.size())) return {};
    hosts.resize(elements.size());
    for (std::size_t i = 0; i < elements.size(); ++i) hosts[i][name] = elements[i];
  }
  return hosts;
}

bool is_loopback(const addrinfo& address) {
  if (address.ai_family == AF_INET6) {
    return IN6_IS_ADDR_LOOPBACK(&reinterpret_cast<const sockaddr_in6*>(address.ai_addr)->sin6_addr);
  }
  constexpr std::uint32_t kLoopbackNet = 127;
  const auto* v4 = reinterpret_cast<const sockaddr_in*>(address.ai_addr);
  return ntohl(v4->sin_addr.s_addr) >> 24 == kLoopbackNet;
}

// Whether its host has addresses that may answer where the first one is silent.
bool has_several_addresses(PGconn* connection) {
  const std::string host = parameter_of(connection, "host");
  if (host.empty() || host.starts_with('/') || host.starts_with('@') ||
      !parameter_of(connection, "hostaddr").empty()) {
    return false;
  }
  addrinfo wanted{};
  wanted.ai_socktype = SOCK_STREAM;
  addrinfo* found = nullptr;
  if (getaddrinfo(host.c_str(), nullptr, &wanted, &found) != 0) return false;
  const std::unique_ptr<addrinfo, decltype(&freeaddrinfo)> addresses(found, freeaddrinfo);
  int others = 0;
  for (const addrinfo* address = found; address != nullptr; address = address->ai_next) {
    if (!is_loopback(*address)) ++others;
  }
  return others > 1;
}

// False when the time is over.
bool wait_for(PGconn* connection, bool to_read, MonotonicTime deadline) {
  while (true) {
    const auto left = std::chrono::ceil<Milliseconds>(deadline - std::chrono::steady_clock::now());
    if (left.count() <= 0) return false;
    pollfd socket{PQsocket(connection), static_cast<short>(to_read ? POLLIN : POLLOUT), 0};
    const int ready = poll(&socket, 1, static_cast<int>(left.count()));
    if (ready > 0) return true;
    // What else poll() has against the socket, libpq will find, too.
    if (ready < 0 && errno != EINTR) return true;
  }
}

// Brings an attempt that was begun to its end, good or bad; false when the time is over.
bool finish_attempt(PGconn* connection, Milliseconds timeout) {
  const MonotonicTime deadline = std::chrono::steady_clock::now() + timeout;
  PostgresPollingStatusType next = PGRES_POLLING_WRITING;
  while (next != PGRES_POLLING_OK && next != PGRES_POLLING_FAILED) {
    if (!wait_for(connection, next == PGRES_POLLING_READING, deadline)) return false;
    next = PQconnectPoll(connection);
  }
  return true;
}

PgHandle begin_attempt(Parameters parameters) {
  parameters.keys.push_back(nullptr);
  parameters.values.push_back(nullptr);
  return {PQconnectStartParams(parameters.keys.data(), parameters.values.data(), 1), PQfinish};
}

Connecting end_attempt(PgHandle begun, Milliseconds timeout) {
  PGconn* connection = begun.get();
  if (connection == nullptr) return {.failure = "out of memory"};
  // A server tells of a collation that has changed with each connection, and of its own end while
  // one is made; by default libpq writes both to standard error. It has read nothing so far.
  PQsetNoticeReceiver(connection, drop_notice, nullptr);
  bool late = false;
  if (PQstatus(connection) != CONNECTION_BAD) {
    // Only libpq's own loop, inside of PQreset(), goes on to the next host or address when one is
    // silent. It begins anew and keeps the receiver.
    const bool several = names_several_hosts(connection);
    late = !several && !finish_attempt(connection, timeout);
    if (several || (late && has_several_addresses(connection))) {
      late = false;
      PQreset(connection);
    }
  }
  if (PQstatus(connection) == CONNECTION_OK) return {.connection = std::move(begun)};
  return {.failure = libpq_words(PQerrorMessage(connection)) + (late ? " timeout expired" : "")};
}

// libpq does not go on to the next host when one takes the connection and ends it, as a proxy does
// whose server is gone. So each has an attempt of its own.
Connecting try_each(const std::vector<std::map<std::string, std::string>>& hosts,
                    const Parameters& parameters, Milliseconds timeout) {
  std::string failures;
  for (const auto& host : hosts) {
    Parameters one = parameters;
    for (const auto& [name, value] : host) {
      one.keys.push_back(name.c_str());
      one.values.push_back(value.c_str());
    }
    Connecting result = end_attempt(begin_attempt(std::move(one)), timeout);
    if (result.connection != nullptr) return result;
    failures += (failures.empty() ? "" : "; ") + result.failure;
  }
  return {.failure = failures};
}

}  // namespace

std::string libpq_words(const char* text) {
  std::string_view rest = text == nullptr ? "" : text;
  std::string words;
  while (!rest.empty()) {
    const std::string_view line = rest.substr(0, rest.find('\n'));
    rest.remove_prefix(std::min(rest.size(), line.size() + 1));
    const std::size_t first = line.find_first_not_of(" \t");
    if (first == std::string_view::npos) continue;
    // A line of advice is indented, and may begin a sentence or go on with one.
    if (!words.empty()) words += first == 0 ? "; " : line[first] <= 'Z' ? ". " : " ";
    words += line.substr(first, line.find_last_not_of(" \t") + 1 - first);
  }
  return words;
}

Connecting quiet_connect(std::vector<const char*> keys, std::vector<const char*> values,
                         Milliseconds timeout) {
  const std::string unused = password_file_problem(password_file(values.front()));
  if (!unused.empty()) {
    keys.push_back("passfile");
    values.push_back("/nonexistent");
  }
  const Parameters parameters{std::move(keys), std::move(values)};
  PgHandle begun = begin_attempt(parameters);
  std::vector<std::map<std::string, std::string>> hosts;
  if (names_several_hosts(begun.get())) hosts = hosts_of(begun.get());
  if (!hosts.empty()) begun.reset();
  Connecting result =
      hosts.empty() ? end_attempt(std::move(begun), timeout) : try_each(hosts, parameters, timeout);
  if (result.connection == nullptr && !unused.empty()) result.failure += "; " + unused;
  return result;
}

}  // namespace outfall::postgres
