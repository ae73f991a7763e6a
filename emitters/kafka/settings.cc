#include "emitters/kafka/settings.h"

#include <algorithm>
#include <array>
#include <map>
#include <stdexcept>
#include <unistd.h>

#include "core/number.h"
#include "core/text.h"
#include "emitters/kafka/passthrough.h"

namespace outfall::kafka {
namespace {

constexpr auto kFormats = std::to_array<std::string_view>({"binary", "structured", "debezium"});
constexpr auto kEncodings = std::to_array<std::string_view>({"raw", "json", "json_schema"});
constexpr auto kCompressions =
    std::to_array<std::string_view>({"none", "gzip", "snappy", "lz4", "zstd"});
constexpr auto kMechanisms =
    std::to_array<std::string_view>({"none", "PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"});

constexpr auto kSpecs = std::to_array<SettingSpec>({
    {.name = "brokers",
     .type = SettingType::string,
     .summary = "Some brokers of the cluster, as in `kafka-1:9092,kafka-2:9092`. The others are "
                "found by them.",
     .required = true},
    {.name = "topic",
     .type = SettingType::string,
     .summary =
         "The topic, or a template for it: `{type}`, `{source}`, `{subject}`, `{stream}` and "
         "`{header.NAME}` stand for what the entry has there. Where exactly one of them "
         "(beside `{stream}`) occurs, it is the stream's lane unless the stream says "
         "otherwise.",
     .required = true},
    {.name = "format",
     .type = SettingType::choice,
     .default_value = "\"binary\"",
     .summary =
         "What a record looks like: CloudEvents in binary mode (the payload as it is, "
         "attributes as `ce_` headers), CloudEvents in structured mode (one JSON object), or "
         "what Debezium's outbox event router sends.",
     .choices = kFormats},
    {.name = "key_encoding",
     .type = SettingType::choice,
     .default_value = "\"raw\"",
     .summary = "How the key is written: as it is, as a JSON string, or as JSON with Kafka "
                "Connect's schema. Consumers and the partition depend on it.",
     .choices = kEncodings},
    {.name = "debezium.id_encoding",
     .type = SettingType::choice,
     .default_value = "\"raw\"",
     .summary = "With `format = \"debezium\"`: how the header `id` and that of the type are "
                "written, as for `key_encoding`.",
     .choices = kEncodings},
    {.name = "debezium.type_header",
     .type = SettingType::string,
     .default_value = "\"\"",
     .summary = "With `format = \"debezium\"`: the header that gets the entry's type, as in "
                "`eventType`. Empty: none."},
    {.name = "partition",
     .type = SettingType::string,
     .default_value = "\"\"",
     .summary = "`header.NAME` takes the partition from that header of the entry where it has one. "
                "Otherwise, and always when empty, the key decides as in Java's producer."},
    {.name = "key_window",
     .type = SettingType::integer,
     .default_value = "0",
     .summary = "How many records of one key may be unacknowledged; 0 is any number. 1 keeps the "
                "order of a key even where the broker rejects a record that outfall found nothing "
                "wrong with, at the price of one round trip for each record of a key.",
     .max = 1'000'000},
    {.name = "delivery_timeout",
     .type = SettingType::duration,
     .default_value = "\"10s\"",
     .summary = "After this time without an acknowledgement the topic counts as unavailable. Well "
                "below `drain.lease`.",
     .min = 1000,
     .max = 300'000},
    {.name = "linger",
     .type = SettingType::duration,
     .default_value = "\"1ms\"",
     .summary = "How long a record waits for others to share a request with. More is less work for "
                "the broker, 0ms the lowest latency.",
     .max = 1000},
    {.name = "compression",
     .type = SettingType::choice,
     .default_value = "\"none\"",
     .summary = "How batches are compressed. Other than `none`, only the broker can tell whether a "
                "record is too large for its topic.",
     .choices = kCompressions},
    {.name = "batch_bytes",
     .type = SettingType::bytes,
     .default_value = "1000000",
     .summary = "The most that one batch of records may have. Lowered by itself for topics whose "
                "`max.message.bytes` is less.",
     .min = 1000,
     .max = 100'000'000},
    {.name = "tls.enabled",
     .type = SettingType::boolean,
     .default_value = "false",
     .summary = "Whether brokers are spoken to by TLS. Their certificates and names are always "
                "verified."},
    {.name = "tls.ca_file",
     .type = SettingType::string,
     .default_value = "\"\"",
     .summary = "The file of the certificate authorities (PEM) that may vouch for brokers. Empty: "
                "those of the system."},
    {.name = "tls.certificate_file",
     .type = SettingType::string,
     .default_value = "\"\"",
     .summary = "The client's certificate (PEM), for brokers that ask for one. One in PKCS#12 is "
                "named by the property `ssl.keystore.location` in `librdkafka` instead."},
    {.name = "tls.key_file",
     .type = SettingType::string,
     .default_value = "\"\"",
     .summary = "The private key (PEM) of the client's certificate."},
    {.name = "tls.key_password",
     .type = SettingType::string,
     .summary = "The password of the private key, or of the PKCS#12 file.",
     .secret = true},
    {.name = "sasl.mechanism",
     .type = SettingType::choice,
     .default_value = "\"none\"",
     .summary = "How to log in to the brokers.",
     .choices = kMechanisms},
    {.name = "sasl.username",
     .type = SettingType::string,
     .default_value = "\"\"",
     .summary = "The user to log in as."},
    {.name = "sasl.password",
     .type = SettingType::string,
     .summary = "The user's password.",
     .secret = true},
    {.name = "librdkafka",
     .type = SettingType::string_map,
     .summary = "Further properties of librdkafka, as in `{ \"socket.keepalive.enable\" = "
                "\"false\" }`. Those that outfall's promise rests on are refused. `print-config` "
                "shows those that are called like a secret, such as `sasl.oauthbearer.config`, as "
                "`***`."},
});

template <std::size_t N>
std::size_t index_of(const std::array<std::string_view, N>& choices, const std::string& choice) {
  std::size_t index = 0;
  while (index + 1 < N && choices[index] != choice) ++index;
  return index;
}

Encoding encoding_of(const SettingValues& values, std::string_view name) {
  return static_cast<Encoding>(index_of(kEncodings, values.text(name)));
}

// librdkafka waits in whole milliseconds, rounded down, and spins for the rest of the time. With a
// tenth more than whole ones that rest is short.
std::string linger_ms(Milliseconds linger) {
  return std::to_string(linger.count()) + (linger.count() > 0 ? ".1" : "");
}

// What outfall asks of librdkafka unless the pass-through table says otherwise.
void add_defaults(Settings& settings, const SettingValues& values) {
  auto& list = settings.properties;
  const auto timeout = settings.delivery_timeout.count();
  list = {
      {"bootstrap.servers", values.text("brokers")},
      {"client.id", "outfall"},
      {"enable.idempotence", "true"},
      {"acks", "all"},
      {"max.in.flight", "5"},
      // Our own clock decides, and then takes back everything at once: a limit of librdkafka's own
      // would let a later record of a key through after an earlier one timed out.
      {"message.timeout.ms", "0"},
      {"linger.ms", linger_ms(values.duration("linger"))},
      {"compression.codec", values.text("compression")},
      {"partitioner", settings.partitioner},
      // A mistyped name must not become a topic with the cluster's defaults.
      {"allow.auto.create.topics", "false"},
      // The topic's own limit is what counts.
      {"message.max.bytes", "1000000000"},
      {"queue.buffering.max.messages", "1000000"},
      {"queue.buffering.max.kbytes", "2097151"},
      {"batch.num.messages", "10000"},
      // A broker that comes back is used within a second.
      {"reconnect.backoff.ms", "50"},
      {"reconnect.backoff.max.ms", "1000"},
      {"retry.backoff.ms", "50"},
      {"topic.metadata.refresh.fast.interval.ms", "50"},
      {"socket.timeout.ms", std::to_string(std::min<std::int64_t>(timeout, 4000))},
      {"socket.connection.setup.timeout.ms", std::to_string(std::min<std::int64_t>(timeout, 3000))},
      {"api.version.request.timeout.ms", std::to_string(std::min<std::int64_t>(timeout, 2000))},
      {"topic.metadata.propagation.max.ms", std::to_string(std::min<std::int64_t>(timeout, 5000))},
      {"socket.nagle.disable", "true"},
      {"socket.keepalive.enable", "true"},
      {"statistics.interval.ms", "5000"},
  };
}

void add_security(Settings& settings, const SettingValues& values) {
  const bool tls = values.flag("tls.enabled");
  const std::string& mechanism = values.text("sasl.mechanism");
  const bool sasl = mechanism != "none";
  const auto add = [&](const char* name, const std::string& value) {
    if (!value.empty()) settings.properties.emplace_back(name, value);
  };
  add("security.protocol", sasl ? (tls ? "sasl_ssl" : "sasl_plaintext") : (tls ? "ssl" : ""));
  if (tls) {
    add("ssl.ca.location", values.text("tls.ca_file"));
    add("ssl.certificate.location", values.text("tls.certificate_file"));
    add("ssl.key.location", values.text("tls.key_file"));
    if (values.has("tls.key_password")) {
      add("ssl.key.password", values.text("tls.key_password"));
      // Of the file that the pass-through table may name; without it nothing reads this.
      add("ssl.keystore.password", values.text("tls.key_password"));
    }
    // Off by default in this version of librdkafka.
    add("ssl.endpoint.identification.algorithm", "https");
  }
  if (sasl) {
    add("sasl.mechanism", mechanism);
    add("sasl.username", values.text("sasl.username"));
    if (values.has("sasl.password")) add("sasl.password", values.text("sasl.password"));
  }
}

// Empty, or why librdkafka does not take it.
std::string set_property(rd_kafka_conf_t* conf, const std::string& name, const std::string& value) {
  std::array<char, 512> error{};
  if (rd_kafka_conf_set(conf, name.c_str(), value.c_str(), error.data(), error.size()) ==
      RD_KAFKA_CONF_OK) {
    return {};
  }
  // Its words quote the value.
  return names_a_secret(name) ? name + " is refused by librdkafka" : error.data();
}

// By itself, so that each that is refused is told, and not only the first.
std::string refusal_of(const std::string& name, const std::string& value) {
  const Conf conf(rd_kafka_conf_new());
  return set_property(conf.get(), name, value);
}

// HOST, HOST:PORT, or an address of IPv6 in brackets.
bool is_broker(std::string_view text) {
  const bool in_brackets = text.starts_with('[');
  const std::size_t close = in_brackets ? text.find(']') : 0;
  if (close == std::string_view::npos) return false;
  const std::size_t colon = text.find(':', close);
  const std::string_view host = text.substr(0, colon);
  if (host.empty() || host.find_first_of(" \t/;@") != std::string_view::npos) return false;
  if (in_brackets && host.size() != close + 1) return false;
  return colon == std::string_view::npos || parse_port(text.substr(colon + 1)).has_value();
}

class Checker {
 public:
  explicit Checker(const SettingValues& values) : values_(values) {}

  std::vector<SettingProblem> check() {
    const auto topic = TopicTemplate::parse(values_.text("topic"));
    if (const auto* problem = std::get_if<std::string>(&topic)) {
      report("topic", *problem, "write a topic or a template, as in \"shop.{type}\"");
    }
    const std::string& partition = values_.text("partition");
    if (!partition.empty() &&
        (!partition.starts_with(kHeaderPrefix) || partition.size() == kHeaderPrefix.size())) {
      report("partition", "\"" + partition + "\" does not name a header",
             "write header.NAME, or leave it empty");
    }
    check_brokers();
    check_debezium();
    check_security();
    for (const auto& [name, value] : values_.map("librdkafka")) {
      const PassthroughProblem problem = passthrough_problem(name, value);
      if (!problem.message.empty()) {
        report("librdkafka." + name, problem.message, problem.hint);
      } else if (const std::string refusal = refusal_of(name, value); !refusal.empty()) {
        report("librdkafka." + name, refusal, "");
      } else if (name == "ssl.keystore.location" && !values_.has("tls.key_password")) {
        report("librdkafka." + name, "librdkafka takes no PKCS#12 file without a password",
               "set tls.key_password");
      } else if (name == "ssl.keystore.location" && names_certificate()) {
        report("librdkafka." + name,
               "it and tls.certificate_file each name the client's certificate",
               "leave one of them out: tls.certificate_file and tls.key_file, or "
               "ssl.keystore.location in librdkafka");
      }
    }
    const bool complete = std::ranges::all_of(
        kSpecs, [&](const SettingSpec& spec) { return values_.usable(spec.name); });
    if (complete && problems_.empty()) ask_librdkafka();
    return std::move(problems_);
  }

 private:
  void report(std::string setting, std::string message, std::string hint) {
    problems_.push_back({{}, std::move(setting), std::move(message), std::move(hint)});
  }

  [[nodiscard]] bool names_certificate() const {
    return !values_.text("tls.certificate_file").empty();
  }

  void check_debezium() {
    if (values_.text("format") == "debezium") return;
    if (!values_.text("debezium.type_header").empty() ||
        values_.text("debezium.id_encoding") != "raw") {
      report("format", "debezium.* is set, and the format is not debezium",
             "write format = \"debezium\", or leave debezium.* out");
    }
  }

  void check_security() {
    for (const char* file : {"tls.ca_file", "tls.certificate_file", "tls.key_file"}) {
      const std::string& path = values_.text(file);
      if (!path.empty() && ::access(path.c_str(), R_OK) != 0) {
        report(file, "the file " + path + " cannot be read", "look at its path and permissions");
      }
    }
    const bool certificate = names_certificate();
    if (certificate != !values_.text("tls.key_file").empty()) {
      report(certificate ? "tls.key_file" : "tls.certificate_file",
             "a certificate and its key go together", "set both or none");
    }
    const bool names_tls = certificate || !values_.text("tls.ca_file").empty() ||
                           !values_.text("tls.key_file").empty() || values_.has("tls.key_password");
    if (names_tls && !values_.flag("tls.enabled")) {
      report("tls.enabled", "tls.* is set, and TLS is off", "write tls.enabled = true");
    }
    const bool logs_in = values_.text("sasl.mechanism") != "none";
    const bool has_user = !values_.text("sasl.username").empty();
    if (logs_in && !has_user) {
      report("sasl.username", "sasl.mechanism needs a user", "set sasl.username");
    }
    if (logs_in && !values_.has("sasl.password")) {
      report("sasl.password", "sasl.mechanism needs a password", "set sasl.password");
    }
    if (!logs_in && (has_user || values_.has("sasl.password"))) {
      report("sasl.mechanism", "sasl.* is set, and there is no mechanism",
             "write PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512");
    }
  }

  // librdkafka takes nearly everything: of a port above 65535 what is left of it in 16 bits.
  void check_brokers() {
    if (!values_.usable("brokers")) return;
    const std::string_view all = values_.text("brokers");
    for (std::size_t begin = 0; begin <= all.size();) {
      const std::size_t end = std::min(all.find(',', begin), all.size());
      const std::string_view broker = trimmed(all.substr(begin, end - begin), " \t\r\n");
      begin = end + 1;
      if (is_broker(broker)) continue;
      report("brokers", "\"" + std::string(broker) + "\" is not the address of a broker",
             "write HOST:PORT, with a comma between two; how to speak to them is said by "
             "tls.enabled and sasl.mechanism");
    }
  }

  // What librdkafka finds wrong only with all of it together.
  void ask_librdkafka() {
    const Settings settings = read_settings(values_);
    try {
      static_cast<void>(make_conf(settings, settings.batch_bytes));
    } catch (const std::runtime_error& error) {
      report(values_.map("librdkafka").empty() ? "brokers" : "librdkafka", error.what(), "");
    }
  }

  const SettingValues& values_;
  std::vector<SettingProblem> problems_;
};

}  // namespace

std::span<const SettingSpec> setting_specs() noexcept {
  return kSpecs;
}

std::vector<SettingProblem> setting_problems(const SettingValues& values) {
  return Checker(values).check();
}

Settings read_settings(const SettingValues& values) {
  auto topic = TopicTemplate::parse(values.text("topic"));
  if (const auto* problem = std::get_if<std::string>(&topic)) {
    throw std::runtime_error("topic: " + *problem);
  }
  Settings settings(std::get<TopicTemplate>(std::move(topic)));
  settings.format = static_cast<Format>(index_of(kFormats, values.text("format")));
  settings.key_encoding = encoding_of(values, "key_encoding");
  settings.id_encoding = encoding_of(values, "debezium.id_encoding");
  settings.type_header = values.text("debezium.type_header");
  if (!values.text("partition").empty()) {
    settings.partition_header = values.text("partition").substr(kHeaderPrefix.size());
  }
  settings.key_window = static_cast<std::int32_t>(values.integer("key_window"));
  settings.delivery_timeout = values.duration("delivery_timeout");
  settings.batch_bytes = values.bytes("batch_bytes");
  settings.compresses = values.text("compression") != "none";
  settings.uses_scram = values.text("sasl.mechanism").starts_with("SCRAM");
  add_defaults(settings, values);
  add_security(settings, values);
  for (const auto& [name, value] : values.map("librdkafka")) {
    settings.properties.emplace_back(name, value);
    if (name == "partitioner") settings.partitioner = value;
  }
  return settings;
}

std::string_view login_note(const Settings& settings, rd_kafka_resp_err_t error) noexcept {
  constexpr int kFirstWithTheRightNonce = 0x020601ff;
  const bool is_login = error == RD_KAFKA_RESP_ERR__AUTHENTICATION ||
                        error == RD_KAFKA_RESP_ERR_SASL_AUTHENTICATION_FAILED;
  if (!is_login || !settings.uses_scram || rd_kafka_version() >= kFirstWithTheRightNonce) return {};
  return "; Kafka 4.0 and later refuse SCRAM of a librdkafka older than 2.6.1, whatever the "
         "password";
}

Conf make_conf(const Settings& settings, std::int64_t batch_bytes) {
  Conf conf(rd_kafka_conf_new());
  const auto set = [&](const std::string& name, const std::string& value) {
    const std::string refusal = set_property(conf.get(), name, value);
    if (!refusal.empty()) throw std::runtime_error(refusal);
  };
  for (const auto& [name, value] : settings.properties) set(name, value);
  set("batch.size", std::to_string(batch_bytes));
  return conf;
}

}  // namespace outfall::kafka
