// URLs made of entries: an entry decides about what its placeholders stand for and nothing else.

#include <algorithm>
#include <string>
#include <vector>

#include "emitters/webhook/url_template.h"
#include "tests/fuzz/oracle.h"
#include "tests/fuzz/targets.h"
#include "tests/fuzz/text_input.h"

namespace outfall::fuzz {
namespace {

using namespace webhook;

// The segments of the path, without the query.
std::vector<std::string_view> segments(std::string_view url) {
  url = url.substr(0, url.find('?'));
  std::vector<std::string_view> all;
  while (!url.empty()) {
    all.push_back(url.substr(0, url.find('/')));
    url.remove_prefix(std::min(all.back().size() + 1, url.size()));
  }
  return all;
}

// Of the path: a host may be a dot, and climbs nowhere. Before the path there are the scheme,
// nothing, and the host.
std::ptrdiff_t dots(const std::vector<std::string_view>& all) {
  constexpr std::size_t kBeforePath = 3;
  return std::ranges::count_if(all.begin() + std::min(all.size(), kBeforePath), all.end(),
                               [](std::string_view s) { return s == "." || s == ".."; });
}

bool is_printable(std::string_view text) {
  return std::ranges::all_of(text, [](unsigned char c) { return c > 0x20 && c != 0x7f; });
}

// The template with each placeholder replaced by a letter, which fits everywhere.
std::string sample_of(std::string_view text) {
  std::string sample;
  while (!text.empty()) {
    const std::size_t open = std::min(text.find('{'), text.size());
    sample += text.substr(0, open);
    text.remove_prefix(open);
    if (text.empty()) break;
    sample += 'x';
    text.remove_prefix(std::min(text.find('}') + 1, text.size()));
  }
  return sample;
}

void check_hosts(const EntryText& entry, const UrlTarget& target) {
  HostList hosts;
  if (hosts.parse({std::string(entry.option("allow"))}) || !hosts.allows(target, false)) return;
  std::string_view rule = entry.option("allow");
  rule = rule.substr(0, rule.rfind(':') == rule.find(':') ? rule.find(':') : rule.size());
  if (rule.find_first_of("[]:") != std::string_view::npos) return;
  std::string host(rule);
  std::ranges::transform(host, host.begin(), [](unsigned char c) { return std::tolower(c); });
  const bool below = host.starts_with("*.");
  require(below ? target.host.ends_with(host.substr(1)) : target.host == host,
          "only a host of the list is allowed");
}

}  // namespace

void webhook_url(std::string_view input) {
  const EntryText entry(input);
  const std::string text(entry.option("url"));
  UrlTemplate url;
  if (const auto problem = url.parse(text))
    return require(!problem->empty(), "a problem has words");
  std::string made;
  if (const auto problem = url.expand(entry.envelope(), made)) {
    return require(!problem->text.empty(), "a problem has words");
  }
  const auto target = target_of(made);
  if (const auto* reached = std::get_if<UrlTarget>(&target)) {
    check_hosts(entry, *reached);
    require(reached->port >= 1 && reached->port <= 65'535, "a port is one");
  }
  const bool whole = text.starts_with('{') && text.find('}') == text.size() - 1;
  if (whole) return;

  // The literal parts were printable or libcurl refused them; values must not change that.
  const std::string sample = sample_of(text);
  if (is_printable(sample)) require(is_printable(made), "a value brings no space or control");
  require(segments(made).size() == segments(sample).size() &&
              std::ranges::count(made, '?') == std::ranges::count(sample, '?'),
          "a value stays inside of its segment");
  require(dots(segments(made)) == dots(segments(sample)), "a value does not climb to another path");
  if (!url.host_is_fixed()) return;
  const auto fixed = target_of(url.host_url());
  const auto* wanted = std::get_if<UrlTarget>(&fixed);
  const auto* reached = std::get_if<UrlTarget>(&target);
  require(wanted != nullptr, "a fixed host is one");
  require(reached != nullptr && reached->origin() == wanted->origin(),
          "a fixed host is where the request goes");
}

}  // namespace outfall::fuzz
