#include <algorithm>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <boost/json.hpp>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include "daemon/commands.h"

namespace outfall {
namespace {

struct Word {
  std::string text;  // "list", "--config"
  std::string description;
  bool takes_value = false;
  bool is_file = false;
  std::vector<std::string> choices = {};
};

// One command, by the words that lead to it, and what may follow.
struct Node {
  std::string path;
  std::vector<Word> words;
};

std::string first_sentence(const std::string& text) {
  const std::size_t end = text.find_first_of(".;\n");
  return text.substr(0, end);
}

Word word_of(const CLI::Option& option) {
  Word word{"--" + option.get_lnames().front(), first_sentence(option.get_description())};
  const std::string type = option.get_type_name();
  word.takes_value = option.get_items_expected_max() > 0;
  word.is_file = word.takes_value && type == "FILE";
  if (word.takes_value && type.find('|') != std::string::npos) {
    for (std::size_t at = 0; at < type.size();) {
      const std::size_t end = std::min(type.find('|', at), type.size());
      word.choices.push_back(type.substr(at, end - at));
      at = end + 1;
    }
  }
  return word;
}

// The tree that --help shows, flat.
void collect(const CLI::App& app, const std::string& path, std::vector<Node>& nodes) {
  Node node{path, {}};
  const auto commands = app.get_subcommands([](const CLI::App*) { return true; });
  for (const CLI::App* command : commands)
    node.words.push_back({command->get_name(), first_sentence(command->get_description())});
  for (const CLI::Option* option : app.get_options()) {
    if (!option->get_lnames().empty()) {
      node.words.push_back(word_of(*option));
    } else if (const std::string type = option->get_type_name();
               type.find('|') != std::string::npos) {
      for (Word positional{"", "", false, false, {}}; const char c : type + "|") {
        if (c == '|')
          node.words.push_back(std::exchange(positional, {}));
        else
          positional.text += c;
      }
    }
  }
  nodes.push_back(std::move(node));
  for (const CLI::App* command : commands)
    collect(*command, path + " " + command->get_name(), nodes);
}

std::vector<std::string> texts(const Node& node) {
  std::vector<std::string> result;
  for (const Word& word : node.words) result.push_back(word.text);
  return result;
}

// 'outfall entry'|'outfall entry show'|…: how bash and zsh recognise a command.
std::string known_commands(const std::vector<Node>& nodes) {
  std::vector<std::string> quoted;
  for (const Node& node : nodes)
    if (node.path != nodes.front().path) quoted.push_back("'" + node.path + "'");
  return fmt::format("{}", fmt::join(quoted, "|"));
}

// The branches of a case over "command option" for options with a value. `offer` is how the shell
// is given choices, `files` how it is told to complete a file's name.
std::string value_branches(const std::vector<Node>& nodes, std::string_view offer,
                           std::string_view files) {
  std::string text;
  for (const Node& node : nodes) {
    for (const Word& word : node.words) {
      if (!word.takes_value) continue;
      std::string answer;
      if (word.is_file) answer = fmt::format("{}; ", files);
      if (!word.choices.empty())
        answer = fmt::format(fmt::runtime(offer), fmt::join(word.choices, " ")) + "; ";
      text += fmt::format("    '{} {}') {}return ;;\n", node.path, word.text, answer);
    }
  }
  return text;
}

std::string bash(const std::vector<Node>& nodes) {
  std::string text =
      "_outfall() {\n"
      "  local current=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD-1]}\n"
      "  local command=outfall words= word\n"
      "  COMPREPLY=()\n"
      "  for word in \"${COMP_WORDS[@]:1:COMP_CWORD-1}\"; do\n"
      "    case \"$command $word\" in\n";
  text += fmt::format("      {}) command+=\" $word\" ;;\n", known_commands(nodes));
  text += "    esac\n  done\n  case \"$command $before\" in\n";
  text += value_branches(nodes, "COMPREPLY=($(compgen -W '{}' -- \"$current\"))",
                         "compopt -o filenames; COMPREPLY=($(compgen -f -- \"$current\"))");
  text += "  esac\n  case $command in\n";
  for (const Node& node : nodes)
    text += fmt::format("    '{}') words='{}' ;;\n", node.path, fmt::join(texts(node), " "));
  text += "  esac\n  COMPREPLY=($(compgen -W \"$words\" -- \"$current\"))\n}\n";
  return text + "complete -F _outfall outfall\n";
}

// In single quotes, for _describe, where a colon separates.
std::string described(const Word& word) {
  std::string text = word.text + ":" + word.description;
  for (std::size_t at = text.find('\''); at != std::string::npos; at = text.find('\'', at + 4))
    text.replace(at, 1, "'\\''");
  return "'" + text + "'";
}

std::string zsh(const std::vector<Node>& nodes) {
  std::string text =
      "#compdef outfall\n"
      "local command=outfall word\n"
      "local -a found\n"
      "for word in $words[2,CURRENT-1]; do\n"
      "  case \"$command $word\" in\n";
  text += fmt::format("    {}) command+=\" $word\" ;;\n", known_commands(nodes));
  text += "  esac\ndone\ncase \"$command $words[CURRENT-1]\" in\n";
  text += value_branches(nodes, "compadd -- {}", "_files");
  text += "esac\ncase $command in\n";
  for (const Node& node : nodes) {
    std::vector<std::string> words;
    for (const Word& word : node.words) words.push_back(described(word));
    text += fmt::format("    '{}') found=({}) ;;\n", node.path, fmt::join(words, " "));
  }
  return text + "esac\n_describe outfall found\n";
}

std::string fish_word(const Node& node, const Word& word) {
  std::string description = word.description;
  for (std::size_t at = description.find('\''); at != std::string::npos;
       at = description.find('\'', at + 2))
    description.insert(at, 1, '\\');
  std::string what = word.text.starts_with("--") ? "-l " + word.text.substr(2) : "-a " + word.text;
  if (word.is_file) {
    what += " -rF";
  } else if (!word.choices.empty()) {
    what += fmt::format(" -xa '{}'", fmt::join(word.choices, " "));
  } else if (word.takes_value) {
    what += " -x";
  }
  return fmt::format("complete -c outfall -n 'test (__outfall_command) = \"{}\"' {} -d '{}'\n",
                     node.path, what, description);
}

std::string fish(const std::vector<Node>& nodes) {
  std::string text =
      "function __outfall_command\n"
      "  set -l command outfall\n"
      "  for word in (commandline -opc)[2..-1]\n"
      "    switch \"$command $word\"\n"
      "      case";
  for (const Node& node : nodes)
    if (node.path != nodes.front().path) text += fmt::format(" '{}'", node.path);
  text +=
      "\n        set command \"$command $word\"\n    end\n  end\n"
      "  echo $command\nend\ncomplete -c outfall -f\n";
  for (const Node& node : nodes)
    for (const Word& word : node.words) text += fish_word(node, word);
  return text;
}

ExitCode print_completion(const CLI::App& app, const Context& context, const std::string& shell) {
  std::vector<Node> nodes;
  collect(app, "outfall", nodes);
  const std::string text = shell == "bash"  ? bash(nodes)
                           : shell == "zsh" ? zsh(nodes)
                                            : fish(nodes);
  if (context.json) {
    context.out << boost::json::serialize(boost::json::object{{"script", text}}) << '\n';
  } else {
    context.out << text;
  }
  return ExitCode::ok;
}

}  // namespace

void add_completion(CLI::App& app, Context& context) {
  const auto shell = std::make_shared<std::string>();
  CLI::App& command =
      add_command(app, context, "completion", "Print a script that completes commands in a shell",
                  [&app, &context, shell] { return print_completion(app, context, *shell); });
  command.footer("");
  command.add_option("SHELL", *shell, "For which shell")
      ->required()
      ->check(CLI::IsMember({"bash", "zsh", "fish"}).description(""))
      ->type_name("bash|zsh|fish");
}

}  // namespace outfall
