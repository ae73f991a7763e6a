#include <array>

#include "emitters/webhook/options.h"

namespace outfall::webhook {
namespace {

constexpr auto kBodies = std::to_array<std::string_view>({"payload", "structured", "batch"});
constexpr auto kVersions = std::to_array<std::string_view>({"auto", "1.1"});
constexpr auto kAddresses = std::to_array<std::string_view>({"any_but_link_local", "public_only"});
constexpr std::int64_t kMostInFlight = 10'000;

constexpr auto kSettings = std::to_array<SettingSpec>({
    {.name = "url",
     .type = SettingType::string,
     .summary =
         "Where entries are posted to. Placeholders `{type}`, `{source}`, `{subject}`, `{stream}` "
         "and `{header.NAME}` make it a template; a single placeholder may be the whole URL. The "
         "one attribute that it uses is the `lane` of its streams where they do not set one. Its "
         "path and query may be what lets one post there, so nothing shows more than its origin, "
         "`https://hooks.example/…`.",
     .required = true,
     .secret = true,
     .shown = shown_url},
    {.name = "allow_hosts",
     .type = SettingType::string_list,
     .default_value = "[]",
     .summary =
         "The hosts that the URL may name: `api.example`, `*.partner.example` (any depth below), "
         "with `:PORT` or `:*` for other ports than the scheme's own. Required where entries name "
         "the host."},
    {.name = "secret",
     .type = SettingType::string_list,
     .default_value = "[]",
     .summary =
         "Keys that sign each request as Standard Webhooks says, the newest first: `whsec_…` (a "
         "shared secret) or `whsk_…` (an Ed25519 key). With several, each signs. In a file, one a "
         "line. Empty: requests are not signed.",
     .secret = true},
    {.name = "body",
     .type = SettingType::choice,
     .default_value = "\"payload\"",
     .summary =
         "`payload`: the payload as it is, with the attributes as `ce-` headers. `structured`: one "
         "CloudEvents JSON object. `batch`: a CloudEvents JSON array of several entries.",
     .choices = kBodies},
    {.name = "batch_entries",
     .type = SettingType::integer,
     .default_value = "100",
     .summary = "With `body = \"batch\"`: how many entries a request carries at most. They are "
                "those that wait; none waits for more.",
     .min = 1,
     .max = 1000},
    {.name = "max_in_flight",
     .type = SettingType::integer,
     .default_value = "64",
     .summary = "How many requests one endpoint has to answer at a time. Further entries wait, and "
                "do not delay those of other endpoints.",
     .min = 1,
     .max = kMostInFlight},
    {.name = "max_connections",
     .type = SettingType::integer,
     .default_value = "4096",
     .summary = "How many requests are out at a time to all endpoints. Lowered to what the limit "
                "of open files of the process leaves.",
     .min = 1,
     .max = 100'000},
    {.name = "rate",
     .type = SettingType::integer,
     .default_value = "0",
     .summary = "How many entries a second one endpoint gets at most from this worker; 0 is no "
                "limit.",
     .max = 1'000'000},
    {.name = "timeout",
     .type = SettingType::duration,
     .default_value = "\"15s\"",
     .summary = "How long one attempt may take, from the name's resolution to the answer's end. At "
                "most half of `drain.lease`, so that a lease outlasts what was begun under it.",
     .min = 100,
     .max = 15 * 60 * 1000},
    {.name = "connect_timeout",
     .type = SettingType::duration,
     .default_value = "\"3s\"",
     .summary = "How long name resolution, connection and TLS handshake may take together.",
     .min = 100,
     .max = 60 * 1000},
    {.name = "http_version",
     .type = SettingType::choice,
     .default_value = "\"auto\"",
     .summary = "`auto`: HTTP/2 where the endpoint offers it with TLS, else HTTP/1.1. `1.1`: "
                "HTTP/1.1 only.",
     .choices = kVersions},
    {.name = "ca_file",
     .type = SettingType::string,
     .default_value = "\"\"",
     .summary = "PEM file of the authorities that endpoints' certificates are verified against. "
                "Empty: those of the system. Read again at least every five minutes."},
    {.name = "client_certificate_file",
     .type = SettingType::string,
     .default_value = "\"\"",
     .summary = "PEM file with our certificate and its chain, for endpoints that ask for one. Read "
                "for each new connection, so that a renewed one needs no restart."},
    {.name = "client_key_file",
     .type = SettingType::string,
     .default_value = "\"\"",
     .summary = "PEM file with the key of `client_certificate_file`."},
    {.name = "proxy",
     .type = SettingType::string,
     .summary = "URL of a forward proxy, `http://HOST:PORT` or `http://USER:PASSWORD@HOST:PORT`, "
                "with what a URL cannot hold written as %XX. Other proxies, such as SOCKS or "
                "those that are spoken to by TLS, are not taken. Through it endpoints' addresses "
                "are resolved and must be checked by the proxy. Proxies in the environment are "
                "not used.",
     .secret = true},
    {.name = "headers",
     .type = SettingType::string_map,
     .default_value = "{}",
     .summary = "Headers that each request carries, such as `authorization`. Names that HTTP, "
                "CloudEvents or Standard Webhooks need are refused. In a file, `name=value` lines.",
     .secret = true},
    {.name = "forward_headers",
     .type = SettingType::string_list,
     .default_value = "[]",
     .summary = "Headers of entries that are sent under their own names, beside `traceparent` and "
                "`tracestate`: `correlation-id`, or `x-*` for all that begin so. All that are "
                "legal CloudEvents extensions travel as `ce-` headers anyway."},
    {.name = "addresses",
     .type = SettingType::choice,
     .default_value = "\"any_but_link_local\"",
     .summary = "Which addresses may be connected to, checked at each connection: "
                "`any_but_link_local` keeps off link-local and cloud metadata addresses, "
                "`public_only` also off private, loopback and reserved ones.",
     .choices = kAddresses},
    {.name = "allow_cidrs",
     .type = SettingType::string_list,
     .default_value = "[]",
     .summary = "Ranges that may be connected to although `addresses` would not let them: "
                "`10.1.0.0/16`, `fd12::/16`."},
    {.name = "deny_cidrs",
     .type = SettingType::string_list,
     .default_value = "[]",
     .summary = "Ranges that are never connected to; they go before `allow_cidrs`."},
    {.name = "status",
     .type = SettingType::string_map,
     .default_value = "{}",
     .summary = "What statuses mean where it differs from the table: `\"404\" = \"failed\"`, "
                "`\"4xx\" = \"failed\"`. One of delivered, retryable_failure, failed, "
                "destination_unavailable, parked."},
    {.name = "response_excerpt",
     .type = SettingType::bytes,
     .default_value = "\"256B\"",
     .summary = "How much of the answer to a failed attempt is kept with the error. Set it to 0 "
                "where endpoints quote what they were sent.",
     .max = 768},
    {.name = "request_id_header",
     .type = SettingType::string,
     .default_value = "\"x-request-id\"",
     .summary = "The header of answers whose value goes into the receipt. Empty: none."},
});

}  // namespace

std::span<const SettingSpec> settings() noexcept {
  return kSettings;
}

}  // namespace outfall::webhook
