#include "emitters/webhook/options.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <memory>
#include <set>
#include <stdexcept>
#include <unistd.h>

#include <curl/curl.h>

#include "emitters/webhook/header_names.h"

namespace outfall::webhook {
namespace {

// Reads the settings and collects what is wrong with them.
class OptionsReader {
 public:
  OptionsReader(const SettingValues& values, std::vector<SettingProblem>& problems)
      : values_(values), problems_(problems) {}

  WebhookOptions read() {
    read_url();
    read_keys();
    read_numbers();
    read_tls();
    read_headers();
    read_addresses();
    read_statuses();
    return std::move(options_);
  }

 private:
  void problem(std::string_view setting, std::string message, std::string hint = {}) {
    problems_.push_back({.origin = values_.origin(setting),
                         .setting = std::string(setting),
                         .message = std::move(message),
                         .hint = std::move(hint)});
  }

  void problem_of_entry(const std::string& map, const std::string& name, std::string message,
                        std::string hint = {}) {
    problems_.push_back({.origin = values_.origin(map, name),
                         .setting = map + "." + name,
                         .message = std::move(message),
                         .hint = std::move(hint)});
  }

  void read_url() {
    const auto hosts = options_.allow_hosts.parse(values_.list("allow_hosts"));
    if (hosts)
      problem("allow_hosts", *hosts, "write api.example, *.partner.example or either:PORT");
    if (const auto wrong = options_.url.parse(values_.text("url"))) {
      problem("url", *wrong, "write a URL such as https://{header.endpoint}/hooks");
      return;
    }
    if (hosts || !values_.usable("allow_hosts")) return;
    if (!options_.url.host_is_fixed()) {
      if (options_.allow_hosts.empty()) {
        problem("url", "entries name its host, and any host would do",
                "set allow_hosts to the hosts that may be sent to");
      }
      return;
    }
    const auto target = target_of(options_.url.host_url());
    if (const auto* fixed = std::get_if<UrlTarget>(&target);
        fixed != nullptr && !options_.allow_hosts.empty() &&
        !options_.allow_hosts.allows(*fixed, true)) {
      problem("url", "allow_hosts does not hold its host", "add " + fixed->host + " to it");
    }
  }

  void read_keys() {
    std::size_t number = 0;
    for (const std::string& key : values_.list("secret")) {
      ++number;
      if (const auto wrong = options_.signer.add_key(key)) {
        problem("secret", "key " + std::to_string(number) + " is not usable: " + *wrong,
                "make one by: echo whsec_$(openssl rand -base64 32)");
      }
    }
  }

  void read_numbers() {
    const std::string& body = values_.text("body");
    options_.body = body == "batch"        ? BodyFormat::batch
                    : body == "structured" ? BodyFormat::structured
                                           : BodyFormat::payload;
    options_.batch_entries = static_cast<std::size_t>(values_.integer("batch_entries"));
    options_.max_in_flight = static_cast<std::size_t>(values_.integer("max_in_flight"));
    options_.max_connections = static_cast<std::size_t>(values_.integer("max_connections"));
    options_.rate_per_second = static_cast<double>(values_.integer("rate"));
    options_.timeout = values_.duration("timeout");
    options_.connect_timeout = values_.duration("connect_timeout");
    options_.http1_only = values_.text("http_version") == "1.1";
    options_.excerpt_bytes = static_cast<std::size_t>(values_.bytes("response_excerpt"));
    options_.request_id_header = values_.text("request_id_header");
    if (!options_.request_id_header.empty() && !is_header_name(options_.request_id_header)) {
      problem("request_id_header", "it is not the name of a header", "write x-request-id");
    }
  }

  void read_tls() {
    options_.ca_file = readable("ca_file");
    options_.certificate_file = readable("client_certificate_file");
    options_.key_file = readable("client_key_file");
    if (options_.certificate_file.empty() != options_.key_file.empty()) {
      problem(options_.key_file.empty() ? "client_certificate_file" : "client_key_file",
              "a certificate and its key come together",
              "set client_certificate_file and client_key_file");
    }
    read_proxy();
  }

  // What is wrong with it is told without its text, which may hold a password.
  void read_proxy() {
    options_.proxy = values_.text("proxy");
    if (options_.proxy.empty()) return;
    if (!options_.proxy.starts_with("http://")) {
      problem("proxy", "it is not the URL of an HTTP proxy", "write http://HOST:PORT");
      return;
    }
    const std::unique_ptr<CURLU, void (*)(CURLU*)> url(curl_url(), curl_url_cleanup);
    if (!url) throw std::runtime_error("libcurl is out of memory");
    const CURLUcode code = curl_url_set(url.get(), CURLUPART_URL, options_.proxy.c_str(), 0);
    if (code == CURLUE_OK) return;
    problem("proxy", std::string("it is not a URL: ") + curl_url_strerror(code),
            "write http://HOST:PORT, and in a password % as %25, @ as %40, / as %2F, : as %3A");
  }

  std::string readable(std::string_view setting) {
    const std::string& path = values_.text(setting);
    if (!path.empty() && ::access(path.c_str(), R_OK) != 0) {
      problem(setting, "the file " + path + " cannot be read", "look at its path and permissions");
    }
    return path;
  }

  void read_headers() {
    std::set<std::string> seen;
    for (const auto& [name, value] : values_.map("headers")) {
      if (!seen.insert(lower_header_name(name)).second) {
        problem_of_entry("headers", name, "the header " + name + " is there twice",
                         "names that differ by case only are one header; keep one");
      } else if (!is_header_name(name)) {
        problem_of_entry("headers", name, "\"" + name + "\" is not the name of a header");
      } else if (is_reserved_header(name)) {
        problem_of_entry("headers", name, "the header " + name + " is made by outfall itself",
                         "leave it out");
      } else if (!is_header_value(value)) {
        problem_of_entry("headers", name, "the value of " + name + " holds what no header can");
      } else {
        options_.headers.emplace_back(name, value);
      }
    }
    for (const std::string& name : values_.list("forward_headers")) {
      const bool some = name.ends_with('*');
      const std::string_view start = std::string_view(name).substr(0, name.size() - (some ? 1 : 0));
      if (!is_header_name(start)) {
        problem("forward_headers", "\"" + name + "\" is not the name of a header",
                "write correlation-id or x-*");
      } else if (!some && is_reserved_header(start)) {
        problem("forward_headers", "the header " + name + " is made by outfall itself");
      } else {
        options_.forward_headers.push_back(lower_header_name(name));
      }
    }
  }

  void read_addresses() {
    if (values_.text("addresses") == "public_only") {
      options_.addresses = AddressPolicy(AddressPolicy::Mode::public_only);
    }
    for (const std::string& range : values_.list("allow_cidrs")) {
      if (!options_.addresses.allow(range)) bad_range("allow_cidrs", range);
    }
    for (const std::string& range : values_.list("deny_cidrs")) {
      if (!options_.addresses.deny(range)) bad_range("deny_cidrs", range);
    }
  }

  void bad_range(std::string_view setting, const std::string& range) {
    problem(setting, "\"" + range + "\" is not a range of addresses",
            "write 10.1.0.0/16 or fd12::/16");
  }

  void read_statuses() {
    for (const auto& [status, verdict] : values_.map("status")) {
      if (options_.statuses.set(status, verdict)) continue;
      problem_of_entry("status", status,
                       "\"" + status + "\" = \"" + verdict + "\" is not understood",
                       "write a status or 4xx, and delivered, retryable_failure, failed, "
                       "destination_unavailable or parked");
    }
  }

  const SettingValues& values_;
  std::vector<SettingProblem>& problems_;
  WebhookOptions options_;
};

}  // namespace

WebhookOptions options_from(const SettingValues& values, std::vector<SettingProblem>& problems) {
  return OptionsReader(values, problems).read();
}

}  // namespace outfall::webhook
