// qianwen govern profile list | show | check | sign | try: what services are told to keep to
// (docs/operations/policy.md).
#include <cstdio>
#include <fstream>

#include "api/generation/screening.h"
#include "base/file.h"
#include "commands.h"
#include "policy.h"

namespace qw::app {
namespace {

using namespace governance;

struct ProfileOptions {
  std::string profile, key, packs, out, traffic;
  bool json = false, lines = false;
};

void print(const json::Object& object) { std::puts(json::dump(json::Value(object)).c_str()); }

Status list(const ProfileOptions& o) {
  for (const std::string& name : shipped_profiles()) {
    QW_ASSIGN(const Profile p, open_profile(name));
    if (o.json)
      print({{"profile", p.name}, {"version", p.version}, {"sha256", to_hex(p.hash)}, {"about", p.about}});
    else
      std::printf("%-13s %s\n", p.name.c_str(), p.about.c_str());
  }
  return {};
}

Status show(const ProfileOptions& o) {
  QW_ASSIGN(const Profile p, open_profile(o.profile));
  std::puts(json::dump(p.document, {.indent = 2, .item_separator = ",", .key_separator = ": "}).c_str());
  return {};
}

// Of what a service needs that follows it, all that may be asked for.
Status check(const ProfileOptions& o) {
  QW_ASSIGN(const auto policy, open_policy(o.profile, o.packs));
  const Profile& p = policy->profile();
  if (!o.key.empty()) {
    QW_ASSIGN(const PublicKey key, PublicKey::read(o.key));
    if (!p.signed_by(key)) return fail(ErrorKind::kRefused, o.profile + ": not signed by " + o.key);
  }
  const auto asks = policy->unmet({});
  if (o.json) {
    json::Object out = policy->description();
    json::Array needs;
    for (const std::string& line : asks) needs.emplace_back(line);
    out.set("needs", std::move(needs));
    print(out);
    return {};
  }
  std::printf("%s, version %lld of %s, policy %s\n", p.name.c_str(), static_cast<long long>(p.version), p.date.c_str(),
              policy->hash().c_str());
  if (p.signature)
    std::printf("%s by the key %s\n", p.signed_by(p.signature->key) ? "signed" : "changed since it was signed",
                p.signature->key.id().c_str());
  for (const std::string& line : asks) std::printf("%s\n", line.c_str());
  for (const Duty duty : p.operator_duties) std::printf("the operator's duty: %s\n", name_of(duty));
  return {};
}

Status sign(const ProfileOptions& o) {
  QW_ASSIGN(const Profile p, open_profile(o.profile));
  QW_ASSIGN(const SigningKey key, SigningKey::read(o.key));
  const std::string file = p.signed_file(key);
  if (!o.out.empty()) return base::write_file_atomically(o.out, file);
  std::fputs(file.c_str(), stdout);
  return {};
}

// What was said on both sides of one line of traffic.
struct Said {
  api::ChatRequest input, output;
};

Result<Said> said_in(const std::string& line) {
  QW_ASSIGN(const json::Value value, json::parse(line));
  if (!value.is_object()) return fail(ErrorKind::kBadInput, "not an object");
  Said out;
  if (const json::Value* messages = value.find("messages"); messages != nullptr && messages->is_array()) {
    for (const json::Value& message : messages->as_array()) {
      const json::Value* role = message.find("role");
      const bool answered = role != nullptr && *role == json::Value("assistant");
      (answered ? out.output : out.input).messages.push_back(message);
    }
    return out;
  }
  const auto take = [&](api::ChatRequest& side, std::initializer_list<const char*> names) {
    for (const char* name : names)
      if (const json::Value* text = value.find(name); text != nullptr && text->is_string())
        side.messages.push_back(json::Object{{"content", *text}});
  };
  take(out.input, {"input", "prompt"});
  take(out.output, {"output", "completion"});
  if (out.input.messages.empty() && out.output.messages.empty())
    return fail(ErrorKind::kBadInput, "it has neither messages, nor input or prompt, nor output or completion");
  return out;
}

struct Side {
  const char* name;
  api::GuardCounts counts;
  std::int64_t touched = 0, blocked = 0;
  void take(const api::Screened& found) {
    add_counts(counts, found.counts);
    touched += found.counts.empty() ? 0 : 1;
    blocked += found.blocked ? 1 : 0;
  }
};

Status dry_run(const ProfileOptions& o) {
  QW_ASSIGN(const auto policy, open_policy(o.profile, o.packs));
  std::ifstream in(o.traffic, std::ios::binary);
  if (!in) return fail(ErrorKind::kFailed, o.traffic + ": cannot be opened");
  Side input{"input", {}}, retrieval{"retrieval", {}}, output{"output", {}};
  std::int64_t number = 0, rows = 0;
  for (std::string line; std::getline(in, line);) {
    ++number;
    if (line.empty()) continue;
    auto said = said_in(line);
    if (!said) return in_context(o.traffic + " line " + std::to_string(number), std::move(said).error());
    ++rows;
    const auto brought =
        has_retrieved(said->input)
            ? screen_retrieved(policy->retrieval(), policy->profile().retrieval.reply, said->input)
            : api::Screened();
    const auto asked = screen(policy->input(), said->input), answered = screen(policy->output(), said->output);
    retrieval.take(brought);
    input.take(asked);
    output.take(answered);
    if (o.lines && (asked.blocked || answered.blocked || brought.blocked))
      std::printf("line %lld: the %s is blocked\n", static_cast<long long>(number),
                  asked.blocked || brought.blocked ? "request" : "answer");
  }
  if (in.bad()) return fail(ErrorKind::kFailed, o.traffic + ": cannot be read");
  if (o.json) {
    json::Object out{{"profile", policy->profile().name}, {"policy", policy->hash()}, {"lines", rows}};
    for (const Side* side : {&input, &retrieval, &output})
      out.set(side->name,
              json::Object{
                  {"with_findings", side->touched}, {"blocked", side->blocked}, {"findings", to_json(side->counts)}});
    print(out);
    return {};
  }
  for (const Side* side : {&input, &retrieval, &output}) {
    std::printf("%s: of %lld lines %lld with findings, %lld blocked\n", side->name, static_cast<long long>(rows),
                static_cast<long long>(side->touched), static_cast<long long>(side->blocked));
    for (const api::GuardCount& one : side->counts)
      std::printf("  %-6s %-28s %lld\n", name_of(one.action), one.kind.c_str(), static_cast<long long>(one.count));
  }
  return {};
}

}  // namespace

void add_govern_profile(CLI::App& govern, Outcome& outcome) {
  CLI::App* group = govern.add_subcommand("profile", "What serve --policy makes a service keep to");
  group->require_subcommand(1);
  const auto add = [&](const char* name, const char* what, Status (*run)(const ProfileOptions&)) {
    CLI::App* cmd = group->add_subcommand(name, what);
    const auto o = std::make_shared<ProfileOptions>();
    cmd->callback([o, run, &outcome] {
      if (const Status status = run(*o); !status) outcome.code = report(status.error());
    });
    return std::pair(cmd, o);
  };
  const auto profile = [](CLI::App* cmd, ProfileOptions& o) {
    cmd->add_option("PROFILE", o.profile, "a file, or the name of one that comes with the program")->required();
  };
  const auto packs = [](CLI::App* cmd, ProfileOptions& o) {
    cmd->add_option("--packs", o.packs, "folder of its keyword packs (default: beside the file)");
    cmd->add_flag("--json", o.json, "print one JSON object");
  };
  {
    const auto [cmd, o] = add("list", "those that come with the program", list);
    cmd->add_flag("--json", o->json, "an object a line");
  }
  {
    const auto [cmd, o] = add("show", "print it, to be changed into one's own", show);
    profile(cmd, *o);
  }
  {
    const auto [cmd, o] = add("check", "read it and its packs, and say what it asks of a service", check);
    profile(cmd, *o);
    packs(cmd, *o);
    cmd->add_option("--key", o->key, "public key that it must be signed with: exit code 4 if it is not");
  }
  {
    const auto [cmd, o] = add("sign", "print it with a signature", sign);
    profile(cmd, *o);
    cmd->add_option("--key", o->key, "file of the key that signs (govern audit key)")->required();
    cmd->add_option("-o,--out", o->out, "write it there instead");
  }
  {
    const auto [cmd, o] =
        add("try", "what it would have done to past requests and answers; nothing is kept or sent", dry_run);
    profile(cmd, *o);
    packs(cmd, *o);
    cmd->add_option("--on", o->traffic, "JSON lines: messages, or input and output (also prompt and completion)")
        ->required();
    cmd->add_flag("--lines", o->lines, "name the lines that would have been blocked");
  }
}

}  // namespace qw::app
